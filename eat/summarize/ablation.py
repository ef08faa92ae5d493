"""The ablation of a study: a system, and its variants without a part.

A study has one ablation of one kind. *Switched off*: the trained system runs without parts, and nothing is retrained.
*Retrained*: each variant is trained separately. The two answer different questions and are never in one table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from eat.results.columns import ABLATION_COLUMNS

if TYPE_CHECKING:
    from eat.study.study import Study


def without_variants(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table with a column `system`, except the ablation's variants, which have their own table."""
    variants = study.ablation.variants if study.ablation else []
    return table[~table["system"].isin(variants)].reset_index(drop=True)


def ablation_table(study: Study, summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of an ablation at batch 1: the reference, the system with all its parts (`full`), and its variants.

    summary: rows as in summary.csv, those of the variants among them. Each system is at its chosen threshold.
    reducer, attention, exits: the parts of the system. compute: its FLOPs divided by those of the reference. The
    differences of accuracy, with interval and test, are also from the reference.
    """
    ablation = study.ablation
    assert ablation is not None
    order = {study.reference: "reference", ablation.base: "full"} | dict.fromkeys(ablation.variants, "variant")
    rows = summary[summary["chosen"] & (summary["batch_size"] == 1) & summary["system"].isin(list(order))]
    parts = {name: study.systems[name] for name in order}
    table = rows.assign(
        ablation=ablation.kind,
        role=rows["system"].map(order),
        reducer=rows["system"].map({name: row.reducer.kind for name, row in parts.items()}),
        attention=rows["system"].map({name: row.attention.kind for name, row in parts.items()}),
        exits=rows["system"].map({name: " and ".join(row.exits.rule) or "none" for name, row in parts.items()}),
        compute=1.0 / rows["flops_ratio"],
    )
    rank = {name: position for position, name in enumerate(order)}
    return table.sort_values(["task", "system"], key=lambda c: c.map(rank) if c.name == "system" else c, kind="stable")[
        list(ABLATION_COLUMNS)
    ]
