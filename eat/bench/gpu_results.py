"""The page and the table of `eat gpu check` and `eat gpu train`: their speed-ups, and the goals as met or not met.

A speed-up is a median of paired ratios of one run, with its 95 % interval. A goal is met if the whole interval is at
least the goal; for an adaptive model on SST-2 also only if no loss of accuracy is shown, that is if the interval of the
paired difference from the reference reaches 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from eat import rounding
from eat.bench.gpu_timing import GRAPHS
from eat.bench.results import markdown
from eat.errors import EatError
from eat.files import read_json
from eat.report.gpu_run import REFERENCE, TEXT
from eat.report.quantities import Quantity
from eat.study.stock import STOCK

LAYERS = {"minilm-6": 6, "bert-base": 12}
DENSE, ADAPTIVE = REFERENCE, "adapt-6"
RESULTS = ("graphs.json", "engine-*-batch-*.json", "compiled.json", "models.json", "timing-batch-*.json")

COLUMNS = (
    "goal", "system", "over", "text", "batch_size", "speedup", "speedup_low", "speedup_high", "target", "met",
    "difference_low", "difference_high", "device", "card", "driver", "cuda", "torch", "date",
)  # fmt: skip


def gpu_table(folder: Path) -> pd.DataFrame:
    """One row for each speed-up, the goals first, with the card, its driver and the versions of the run.

    folder: that of the result files; those that are missing are left out. Raises `EatError` if there is none, and if
    the files are of more than one card or driver: their figures do not belong in one table.
    """
    found = {
        path.stem: read_json(path) for pattern in RESULTS for path in sorted(folder.glob(pattern)) if path.is_file()
    }
    if not found:
        raise EatError(f"{folder}: no results of `eat gpu`; run `make gpu PART=check OUT={folder}` on a GPU")
    cards = {_card(content) for content in found.values()}
    if len(cards) > 1:
        shown = "; ".join(sorted(", ".join(map(str, card)) for card in cards))
        raise EatError(f"{folder}: results of several machines ({shown}); keep those of one")
    rows = [
        {**row, **_machine(content)} for name, content in found.items() for row in _rows(name, content.get("rows", []))
    ]
    if not rows:
        raise EatError(f"{folder}: the result files contain no times; run `make gpu PART=check OUT={folder}` again")
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    return table.sort_values("target", na_position="last", key=lambda column: column.isna(), kind="stable")


def _card(content: Mapping[str, Any]) -> tuple[Any, ...]:
    machine = content["machine"]
    return machine["gpu"] or machine["cpu"], machine["driver"], content["versions"]["torch"]


def _machine(content: Mapping[str, Any]) -> dict[str, Any]:
    machine = content["machine"]
    return {
        "device": content["device"],
        "card": machine["gpu"] or machine["cpu"],
        "driver": machine["driver"],
        "cuda": machine["cuda"],
        "torch": content["versions"]["torch"],
        "date": content["date"],
    }


def _rows(name: str, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The speed-ups of a result file."""
    if name.startswith("timing-batch-"):
        for row in rows:
            yield from _on_text(row)
    elif name.startswith(("engine-", "compiled")):
        shape = name.removeprefix("engine-").rpartition("-batch-")[0] or "minilm-6"
        for row in rows:
            yield from _of_length(row, shape)


def _on_text(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The speed-ups of a system on SST-2."""
    size = row["batch_size"]
    goals = {
        (f"{DENSE}{GRAPHS}", STOCK, 1): ("dense under graphs over stock eager", 4.0),
        (f"{ADAPTIVE}{GRAPHS}", f"{DENSE}{GRAPHS}", 1): ("adaptive over dense, both under graphs", 1.5),
        (ADAPTIVE, DENSE, 32): ("adaptive over packed dense", 1.5),
    }
    for over in (STOCK, DENSE, f"{DENSE}{GRAPHS}"):
        if row.get(f"over_{over}") is None or over == row["system"]:
            continue
        goal, target = goals.get((row["system"], over, size), (None, None))
        found = {end: row[f"over_{over}{end}"] for end in ("", "_low", "_high")}
        no_loss = row["system"].startswith(DENSE) or row["difference_high"] >= 0.0
        yield {
            **_speedup(row["system"], over, TEXT, size, found, goal, target, no_loss),
            "difference_low": row["difference_low"],
            "difference_high": row["difference_high"],
        }


def _of_length(row: Mapping[str, Any], shape: str) -> Iterator[dict[str, Any]]:
    """The speed-ups of a system with random weights on texts of one length."""
    if row.get("fault") or row.get("system") is None:
        return
    text, size, layers = f"{row['length']:g} tokens", row["batch_size"], LAYERS[shape]
    if row.get("over") is not None:
        is_goal = shape == "bert-base" and size == 1 and row["over"] == f"hf-float16-{layers}"
        is_goal = is_goal and row["precision"] == "float16"
        goal, target = ("eat-12 at an exit rate of 80 % over stock eager", 3.0) if is_goal else (None, None)
        found = {end: row[f"speedup_over{end}"] for end in ("", "_low", "_high")}
        yield _speedup(row["system"], row["over"], text, size, found, goal, target)
    elif row["stock"] != row["system"] and row.get("stock_speedup") is not None:
        is_goal = size == 1 and row["system"] == f"graphs-float16-{layers}"
        goal, target = ("dense under graphs over stock eager", 4.0) if is_goal else (None, None)
        found = {end: row[f"stock_speedup{end}"] for end in ("", "_low", "_high")}
        yield _speedup(row["system"], row["stock"], text, size, found, goal, target)


def _speedup(
    system: str,
    over: str,
    text: str,
    batch_size: int,
    found: Mapping[str, float],
    goal: str | None,
    target: float | None,
    no_loss: bool = True,
) -> dict[str, Any]:
    """A row; an end of an interval that is unknown does not meet a goal."""
    met = None
    if target is not None:
        met = "met" if found["_low"] is not None and found["_low"] >= target and no_loss else "not met"
    return {
        "goal": goal,
        "system": system,
        "over": over,
        "text": text,
        "batch_size": batch_size,
        **{f"speedup{end}": value for end, value in found.items()},
        "target": target,
        "met": met,
    }


def gpu_page(table: pd.DataFrame) -> str:
    """The page: the machine, the goals, and every other speed-up."""
    first = table.iloc[0]
    driver = "" if first["driver"] is None else f", driver {first['driver']}, CUDA {first['cuda']}"
    speedup = Quantity("Speed-up", "speedup", rounding.speedup, ("speedup_low", "speedup_high"))
    shared = (
        Quantity("System", "system"),
        Quantity("Over", "over"),
        Quantity("Text", "text"),
        Quantity("Batch", "batch_size", rounding.count),
        speedup,
    )
    goals = table[table["target"].notna()]
    of_goals = (
        Quantity("Goal", "goal"),
        *shared,
        Quantity("At least", "target", rounding.speedup),
        Quantity("", "met"),
    )
    parts = [
        "# On a GPU\n",
        f"Made by `eat gpu check` and `eat gpu train` on {first['date']} ({first['card']}{driver}; torch "
        f"{first['torch']}).\n",
        "A speed-up is a median of paired ratios of one run, with its 95 % interval. A goal is met if the whole "
        "interval is at least the goal, and, for an adaptive model on SST-2, if no loss of accuracy is shown. The "
        "other texts are random, and so are the weights.\n",
    ]
    if len(goals):
        parts.append(f"## Goals\n\n{markdown(goals, of_goals, 'gpu:goals')}")
    others = table[table["target"].isna()]
    if len(others):
        parts.append(f"## Other speed-ups\n\n{markdown(others, shared, 'gpu:others')}")
    return "\n".join(parts)
