"""The report of a tagging study: a page with one table and one figure per task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from eat import rounding
from eat.errors import listed
from eat.files import read_json, read_table, write_text
from eat.report.environments import html_environment, render, style_and_script
from eat.report.inline import inline_svg
from eat.report.quantities import Quantity, table_of
from eat.report.table import Table
from eat.study.stock import STOCK, STOCK_AGAIN
from eat.study.tagging import TaggingStudy
from eat.study.tagging_paths import TaggingPaths
from eat.tagging.figure import NAMES

TEMPLATE = "tagging.html.jinja"


def _columns(metric: str) -> list[Quantity]:
    percent, points, ratio = rounding.percent, rounding.points, rounding.speedup
    return [
        Quantity("System", "system"),
        Quantity("\N{GREEK SMALL LETTER TAU}", "tau", rounding.threshold),
        Quantity("k", "window", rounding.count),
        Quantity(NAMES[metric], "score", percent, ("score_low", "score_high"), "%"),
        Quantity(
            "\N{GREEK CAPITAL LETTER DELTA} to the reference", "delta", points, ("delta_low", "delta_high"), "points"
        ),
        Quantity("Layers", "depth", rounding.depth, unit="per word"),
        Quantity("FLOPs", "flops_ratio", rounding.ratio, unit="reference / own"),
        Quantity("Latency", "latency_ms_p50", rounding.milliseconds, unit="p50, ms"),
        Quantity("Speed-up over stock", "speedup", ratio, ("speedup_low", "speedup_high"), "\N{MULTIPLICATION SIGN}"),
        Quantity("Speed-up over packed", "packed", ratio, ("packed_low", "packed_high"), "\N{MULTIPLICATION SIGN}"),
    ]


def task_table(summary: pd.DataFrame, task: str, title: str) -> Table:
    """The table of a task: every operating point, the chosen ones marked."""
    rows = summary[summary["task"] == task]
    metric = str(rows["metric"].iloc[0])
    found = table_of(
        f"{title}: {NAMES[metric].lower()}, work and time of every operating point. Intervals are 95 %: of scores by a "
        "bootstrap over sentences, of speed-ups over blocks and sentences. A triangle marks the choice on the "
        "calibration split.",
        f"tagging-{task}",
        _columns(metric),
        [("", rows.to_dict("records"))],
    )
    chosen = [bool(flag) and not math.isnan(tau) for flag, tau in zip(rows["chosen"], rows["tau"], strict=True)]
    (group,) = found.groups
    marked = tuple(replace(row, chosen=mark) for row, mark in zip(group.rows, chosen, strict=True))
    return replace(found, groups=(replace(group, rows=marked),))


def sentence_of(summary: pd.DataFrame, task: str, title: str, reference: str) -> str:
    """What the chosen operating points of a task reach, in a sentence."""
    rows = summary[(summary["task"] == task) & summary["chosen"] & summary["tau"].notna()]
    parts = []
    for row in rows.to_dict("records"):
        stock, packed, delta = (
            rounding.with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], rounder)
            for name, rounder in (
                ("speedup", rounding.speedup),
                ("packed", rounding.speedup),
                ("delta", rounding.points),
            )
        )
        at = f"\N{GREEK SMALL LETTER TAU} {rounding.threshold(row['tau'])}, k {rounding.count(row['window'])}"
        missed = "" if row["within_budget"] else ", and no point of it kept the budget on the calibration split"
        parts.append(
            f"{row['system']} ({at}) is {stock} times as fast as stock transformers and {packed} times as fast as "
            f"{reference}, at {delta} points{missed}"
        )
    return f"{title}: {'; '.join(parts)}." if parts else f"{title}: no system has exits."


def write_report(study: TaggingStudy, templates: Path, provenance: Mapping[str, str], out: Path) -> None:
    """Render the page from the summary, the figures, the cards and the states of the timing.

    provenance: facts on the run, already text.
    """
    paths = TaggingPaths(study.study)
    summary = read_table(paths.summary)
    tasks: list[dict[str, Any]] = []
    for task, title in study.titles().items():
        state, card = read_json(paths.timing_state(task)), read_json(paths.sentences_card(task))
        again = summary[(summary["task"] == task) & (summary["system"] == STOCK_AGAIN)].to_dict("records")[0]
        noise = rounding.with_interval(again["speedup"], again["speedup_low"], again["speedup_high"], rounding.speedup)
        caption = (
            f"{NAMES[card['metric']]} against measured speed-up, at batch size 1, with 95 % intervals of the score."
        )
        tasks.append(
            {
                "name": title,
                "anchor": f"task-{len(tasks) + 1}",
                "answer": sentence_of(summary, task, title, study.reference),
                "warning": _warning(state),
                "table": task_table(summary, task, title),
                "figure": {
                    "caption": caption,
                    "svg": inline_svg(paths.figure("frontier", task, "svg"), f"task{len(tasks) + 1}-"),
                },
                "facts": _facts(state, card, noise),
            }
        )
    page = render(
        html_environment(templates),
        TEMPLATE,
        {
            "study": study.study,
            "tasks": tasks,
            "provenance": [*provenance.items()],
            "stock": STOCK,
            **style_and_script(templates),
        },
    )
    write_text(out, page)


def _warning(state: Mapping[str, Any]) -> str:
    if not state["busy"]:
        return ""
    share = rounding.share(state["foreign_load"])
    return f"Other processes used {share} of the machine while time was measured; times and speed-ups may be off."


def _facts(state: Mapping[str, Any], card: Mapping[str, Any], noise: str) -> Sequence[tuple[str, str]]:
    sentences, words = card["sentences"], card["words"]
    machine = state["machine"]
    return [
        ("Sentences", listed(f"{rounding.count(sentences[split])} {split}" for split in words)),
        ("Words", listed(f"{rounding.count(words[split])} {split}" for split in words)),
        ("Tags", rounding.count(len(card["tags"]))),
        (
            "Timed",
            f"{rounding.count(state['n_timed'])} dev sentences, {rounding.count(state['tokens_mean'])} word pieces on "
            "average",
        ),
        ("Noise floor", f"{noise}: {STOCK} over itself"),
        ("Machine", f"{machine['cpu']}, {rounding.count(state['threads'])} threads, {state['date']}"),
    ]
