"""The trace: the output of every exit for every text, and the number of live tokens after every layer.

One pass at full depth over a split records it (`eat.trace.recording`). From it follow, without running the model again,
the accuracy, executed depth, retention and FLOPs of every threshold, and the calibration of every exit. Only timing
needs the model again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from eat.errors import DamagedFile
from eat.files import read_json, read_table, write_json, write_table

PER_LAYER = ("attended", "fed", "alive", "pairs", "pattern_pairs", "cut_margin")


@dataclass(frozen=True)
class Trace:
    """Per example (N rows) and layer (L columns), from one pass in which no text exits early.

    ids: str (N,). labels: int64 (N,). lengths: tokens at the input, int32 (N,). logits: layer of the exit -> float32
    (N, C), ascending; the last is L. attended, fed: tokens that enter attention and the feed-forward part.
    alive: tokens passed on. pairs, pattern_pairs: attention pairs computed, and those of the pattern. cut_margin: the
    relative gap between kept and removed tokens at the removal that first affects this layer, inf if there
    was none, float64. shape: the model's dimensions and parts.
    """

    ids: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    logits: dict[int, np.ndarray]
    attended: np.ndarray
    fed: np.ndarray
    alive: np.ndarray
    pairs: np.ndarray
    pattern_pairs: np.ndarray
    cut_margin: np.ndarray
    shape: dict[str, Any]

    def write(self, path: Path | str) -> None:
        """Write the rows to `path` (Parquet) and the shape next to it (JSON)."""
        columns: dict[str, Any] = {"id": self.ids, "label": self.labels, "length": self.lengths}
        columns |= {f"logits_{depth}": list(values) for depth, values in self.logits.items()}
        columns |= {name: list(getattr(self, name)) for name in PER_LAYER}
        write_json(Path(path).with_suffix(".json"), self.shape)
        write_table(path, pd.DataFrame(columns))

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read what `write` wrote. Raises `DamagedFile` if it is incomplete, or logits are NaN or infinite."""
        shape = read_json(Path(path).with_suffix(".json"))
        exits = [int(depth) for depth in shape["exits"]]
        required = ("id", "label", "length", *(f"logits_{depth}" for depth in exits), *PER_LAYER)
        table = read_table(path, required, complete=required)
        logits = {depth: np.stack(table[f"logits_{depth}"].tolist()).astype(np.float32) for depth in exits}
        for depth, values in logits.items():
            if not np.isfinite(values).all():
                raise DamagedFile(f"{path}: the logits of exit {depth} hold NaN or infinity; train that system again")
        return cls(
            ids=table["id"].to_numpy(dtype=object),
            labels=table["label"].to_numpy(dtype=np.int64),
            lengths=table["length"].to_numpy(dtype=np.int32),
            logits=logits,
            **{name: np.stack(table[name].tolist()) for name in PER_LAYER},
            shape=shape,
        )
