"""The rows of the table of `eat bench engine`, and its page. `eat.bench.engine` describes the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from eat import rounding
from eat.bench.inputs import Case
from eat.bench.measure import percentiles, round_medians, speedup
from eat.bench.results import markdown
from eat.bench.runners import Answers, ProductRunner
from eat.bench.systems import System
from eat.report.quantities import Quantity
from eat.statistics import UNKNOWN


def entry(system: str, order: str) -> str:
    """The name of a turn: a system in an order."""
    return system if order == "arrival" else f"{system} sorted"


def table_rows(
    case: Case,
    systems: Sequence[System],
    timed: pd.DataFrame,
    answers: Mapping[str, Answers],
    differences: Mapping[str, float],
) -> list[dict[str, Any]]:
    """One row for each system and order of a case, without memory and efficiency.

    timed: the timed passes of the case. answers: system -> its answers. differences: system -> what `check_answers`
    found.
    """
    medians = round_medians(timed)
    reference = systems[0].name
    reference_mean = percentiles(timed, reference)["ms_mean"]
    running = {system.name for system in systems}
    rows = []
    for system in systems:
        for order in case.orders:
            name = entry(system.name, order)
            times = percentiles(timed, name)
            gain = speedup(medians, reference, name)
            # the stock system of its precision may be left out
            own_stock = speedup(medians, entry(system.stock, order), name) if system.stock in running else UNKNOWN
            rows.append(
                {
                    "system": system.name,
                    "precision": system.precision,
                    "case": case.name,
                    "length": case.length,
                    "mean_length": case.tokens / len(case.texts),
                    "batch_size": case.batch_size,
                    "order": order,
                    "texts": len(case.texts),
                    "rounds": int(timed["round"].nunique()),
                    "passes": int((timed["name"] == name).sum()),
                    **times,
                    "texts_per_s": len(case.texts) / times["ms_p50"] * 1e3,
                    **gain.columns("speedup"),
                    "speedup_mean": reference_mean / times["ms_mean"],
                    "stock": system.stock,
                    **own_stock.columns("stock_speedup"),
                    "depth": answers[system.name].depth,
                    "gflop": answers[system.name].gflop,
                    "gflops": answers[system.name].gflop / times["ms_p50"] * 1e3,
                    "max_difference": differences.get(system.name),
                }
            )
    return rows


def best_product(raw: pd.DataFrame, products: Mapping[str, ProductRunner]) -> float:
    """The largest rate of a matrix product, in GFLOP/s; the rate of each size is the median of its timed calls."""
    return max(
        product.gflop / float(raw.loc[raw["name"] == name, "ms"].median()) * 1e3 for name, product in products.items()
    )


def engine_page(table: pd.DataFrame, best: float, threads: int, left_out: Sequence[str]) -> str:
    """The table as Markdown, with a section per case and batch size.

    best: the rate of the best matrix product, in GFLOP/s. left_out: lines about the systems that are not in the table.
    """
    quantities = (
        Quantity("System", "name"),
        Quantity("p50 (ms)", "ms_p50", rounding.milliseconds),
        Quantity("p99 (ms)", "ms_p99", rounding.milliseconds),
        Quantity("Speed-up", "speedup", rounding.speedup, ("speedup_low", "speedup_high")),
        Quantity("vs. own stock", "stock_speedup", rounding.speedup),
        Quantity("Depth", "depth", rounding.depth),
        Quantity("GFLOP/s", "gflops", rounding.throughput),
        Quantity("Efficiency", "efficiency", rounding.ratio),
        Quantity("Memory of a call (MB)", "call_mb", rounding.throughput),
    )
    parts = []
    for (case, size), rows in table.groupby(["case", "batch_size"], sort=False):
        named = rows.assign(name=[entry(*pair) for pair in zip(rows["system"], rows["order"], strict=True)])
        tokens = (
            f"{case} tokens"
            if case != "mixed"
            else f"mixed lengths, mean {rounding.ratio(rows['mean_length'].iloc[0])}"
        )
        heading = f"### {tokens}, batch {size} ({rows['rounds'].iloc[0]} rounds)"
        parts.append(f"{heading}\n\n{markdown(named, quantities, f'engine:{case}:{size}')}")
    reference = table["system"].iloc[0]
    parts.append(
        f"Speed-up over {reference}, median of paired ratios with a 95 % interval; {reference}-again is the noise "
        f"floor. Efficiency: relative to the best float32 matrix product in this run, {rounding.throughput(best)} "
        f"GFLOP/s ({threads} threads).\n"
    )
    parts += [f"{line}.\n" for line in left_out]
    return "\n".join(parts)
