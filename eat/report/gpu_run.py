"""The paper's claims on latency, tested on a run on a GPU: the table that `workflow_scripts.gpu_results` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eat.errors import DamagedFile, listed
from eat.report.evidence import Evidence
from eat.report.published import Published
from eat.results.noise import NoiseFloor
from eat.results.rows import Record, read_rows
from eat.study.stock import STOCK, STOCK_AGAIN

REFERENCE = "dense-6"
"""The dense system of the run, in the role of BERT (`config/gpu.yaml`)."""

TEXT = "SST-2"
"""The text of its trained systems; rows of other texts have random weights."""

NO_RUN = "no GPU run is at hand"

COLUMNS = ("system", "over", "text", "batch_size", "speedup", "speedup_low", "speedup_high", "device", "card")


def gpu_evidence(path: Path | str, published: Published) -> tuple[Evidence, str] | None:
    """The speed-ups of a run on a GPU over stock `transformers` at batch 1, and the model of its card.

    `None` if the run has not timed trained systems. Raises `DamagedFile` if the table lacks a column, was not measured
    on a GPU, or has rows of several cards.
    """
    table = read_rows(path, COLUMNS, complete=("device", "card"))
    if set(table["device"]) != {"cuda"}:
        found = listed(sorted(set(table["device"])))
        raise DamagedFile(f"{path}: device is {found}, not cuda; write it again from a run on a GPU, or remove it")
    cards = sorted(set(table["card"]))
    if len(cards) > 1:
        raise DamagedFile(f"{path}: rows of several cards ({listed(cards)}); write it again from the files of one")
    rows = table[(table["text"] == TEXT) & (table["over"] == STOCK) & (table["batch_size"] == 1)]
    rows = rows[rows["speedup_low"].notna()]
    if rows.empty:
        return None
    systems = {model: system for system, model in published.models([*rows["system"], REFERENCE], REFERENCE).items()}
    # each system ran at its chosen threshold alone, and the curves of the run are not in the table
    points = rows.rename(columns={"speedup": "speedup_vs_dense"}).assign(chosen=True, tau=float("nan"))
    nothing = pd.DataFrame(columns=["system", "tau"])
    return Evidence(TEXT, points, nothing, nothing, _noise(rows.to_dict("records")), systems), str(cards[0])


def _noise(rows: Sequence[Record]) -> NoiseFloor:
    """The floor from the row of the stock model that was timed twice; without it, the clock counts as exact."""
    for row in rows:
        if row["system"] == STOCK_AGAIN:
            return NoiseFloor(row["speedup"], row["speedup_low"], row["speedup_high"], row["speedup"])
    return NoiseFloor(1.0, 1.0, 1.0, 1.0)
