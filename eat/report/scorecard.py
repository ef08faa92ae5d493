"""The claims of a paper, each tested on the results of a study, and those on latency also on a run on a GPU.

`judge` tests every claim on every task that it is about. A claim that a study cannot test is listed with the reason;
it counts neither as reproduced nor as not reproduced. The run on a GPU does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eat import rounding
from eat.report.claim_tests import LATENCY, NotMeasured
from eat.report.claims import Claim, Paper
from eat.report.evidence import NAMES, Evidence, Untestable
from eat.report.gpu_run import NO_RUN
from eat.report.published import Published, PublishedRow, PublishedSource
from eat.report.table import Cell, Column, Group, Row, Table

Verdict = Literal["reproduced", "not reproduced", "cannot be tested here"]

SUPPORTED: Verdict = "reproduced"
REFUTED: Verdict = "not reproduced"
UNTESTED: Verdict = "cannot be tested here"
_VERDICTS: Mapping[bool | None, Verdict] = {True: SUPPORTED, False: REFUTED, None: UNTESTED}

_PRINTED: Mapping[str, tuple[rounding.Rounder, str]] = {
    "accuracy": (rounding.percent, " %"),
    "speedup": (rounding.speedup, rounding.TIMES),
    "depth": (rounding.depth, " layers"),
    "retention": (rounding.retention, ""),
    "flops_ratio": (rounding.ratio, " times fewer FLOPs"),
}


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict on one task; `task` is empty if the study does not have the task of the claim.

    gpu: the verdict of a run on a GPU with its figure, or why there is none; a dash if the claim is not on latency.
    """

    claim: Claim
    task: str
    published: str
    ours: str
    verdict: Verdict
    reason: str
    gpu: str


def judge(
    paper: Paper, evidence: Sequence[Evidence], published: Published, gpu: tuple[Evidence, str] | None = None
) -> list[Judged]:
    """Test every claim of a paper on every task that it is about.

    gpu: the measurements of a run on a GPU and the model of its card, if there is one.
    """
    tables = published.tables_of(paper.citation)
    judged = []
    for claim in paper.claims:
        on_gpu = _on_gpu(claim, gpu, published)
        about = [seen for seen in evidence if claim.task in ("", published.task_of(seen.task))]
        if not about:
            theirs = _published(claim, tables, claim.task)
            reason = f"The study has no task {claim.task}."
            judged.append(Judged(claim, "", theirs, rounding.DASH, UNTESTED, reason, on_gpu))
        elif isinstance(claim.test, NotMeasured):
            theirs = _published(claim, tables, None)
            judged.append(Judged(claim, "", theirs, rounding.DASH, UNTESTED, claim.test.reason, on_gpu))
        else:
            for seen in about:
                judged.append(_judged(claim, seen, _published(claim, tables, published.task_of(seen.task)), on_gpu))
    return judged


def _on_gpu(claim: Claim, gpu: tuple[Evidence, str] | None, published: Published) -> str:
    """The verdict of the run on a GPU, as one text."""
    if not isinstance(claim.test, LATENCY):
        return rounding.DASH
    if gpu is None:
        return f"{NO_RUN[:1].upper()}{NO_RUN[1:]}."
    seen, card = gpu
    if claim.task not in ("", published.task_of(seen.task)):
        return f"The GPU run has no task {claim.task}."
    try:
        found = claim.test.judge(seen)
    except Untestable as lack:
        return f"{UNTESTED}: {lack}"
    return f"{_VERDICTS[found.supported]}: {found.ours} ({seen.task}, {card})"


def _judged(claim: Claim, seen: Evidence, theirs: str, on_gpu: str) -> Judged:
    try:
        found = claim.test.judge(seen)
    except Untestable as lack:
        return Judged(claim, seen.task, theirs, rounding.DASH, UNTESTED, str(lack), on_gpu)
    return Judged(claim, seen.task, theirs, found.ours, _VERDICTS[found.supported], found.reason, on_gpu)


def _published(claim: Claim, tables: Sequence[PublishedSource], task: str | None) -> str:
    """The figures that the paper prints for one of its tasks; for any other task, its figures over all tasks."""
    parts = []
    for figure in claim.published:
        tasks = next(table.tasks for table in tables if figure.table in ("", table.title))
        rows = [
            row
            for name, models in tasks.items()
            if name == task or task not in tasks
            for row in models.get(figure.model, [])
            if figure.tau in (None, row.tau)
        ]
        values = [value for row in rows if (value := _field(row, figure.column)) is not None]
        at = "" if figure.tau is None else f" at {rounding.threshold(figure.tau)}"
        parts.append(f"{NAMES[figure.model]}{at}: {rounding.span(values, *_PRINTED[figure.column])}")
    return "; ".join([*parts, *([claim.stated] if claim.stated else [])]) or rounding.DASH


def _field(row: PublishedRow, column: str) -> float | None:
    value: float | None = getattr(row, column)
    return value


def counts_sentence(judged: Sequence[Judged]) -> str:
    """The number of verdicts of each kind, as a sentence."""
    tally = Counter(one.verdict for one in judged)
    parts = [
        f"{rounding.count(tally[verdict])} {verdict}" for verdict in (SUPPORTED, REFUTED, UNTESTED) if tally[verdict]
    ]
    claims = rounding.count(len({one.claim.claim for one in judged}))
    return f"{claims} claims, each tested on every task that allows it: {', '.join(parts)}."


def scorecard_table(paper: Paper, judged: Sequence[Judged]) -> Table:
    """One row per claim and task: the claim, the published and the measured figure, both verdicts and the reason."""
    columns = (
        Column("Claim", align="left", width=0.2),
        Column("Published", align="left", width=0.12),
        Column("This run", align="left", width=0.16),
        Column("Verdict", align="left", width=0.1),
        Column("Reason", align="left", width=0.18),
        Column("On a GPU", align="left", width=0.13),
    )
    groups = []
    for task in sorted(dict.fromkeys(one.task for one in judged), key=lambda task: not task):  # without a task: last
        heading = task or "Claims that no task of this study can test"
        groups.append(Group(heading, tuple(_line(one) for one in judged if one.task == task)))
    caption = (
        f"The claims of the paper on {paper.name}, tested on the results of this study. Intervals are 95 % intervals. "
        "A claim about one task of the paper is tested only on that task; for other tasks, the published figures are "
        "those of all tasks of the paper. The last column tests claims on latency on the run of docs/results/gpu.csv, "
        "at batch 1."
    )
    return Table(caption, f"scorecard:{paper.name}", columns, tuple(groups))


def _line(one: Judged) -> Row:
    claim = f"{one.claim.claim.removesuffix('.')} ({one.claim.where})."
    verdict = Cell(one.verdict, tone=f"verdict-{one.verdict.replace(' ', '-')}")
    return Row((Cell(claim), Cell(one.published), Cell(one.ours), verdict, Cell(one.reason), Cell(one.gpu)))
