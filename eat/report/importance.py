"""Scores of importance: their rank correlation with saliency, and the accuracy they give at equal retention.

The paper claims that the norm of a hidden state is competitive. It is compared with other scores in two ways: by rank
correlation with gradient saliency, in the layers that both score, and by the accuracy of systems that keep the same
number of tokens after every layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from eat import rounding
from eat.errors import listed
from eat.report import verdicts
from eat.report.quantities import ACCURACY, DELTA, SYSTEM, WORK, Quantity, table_of
from eat.report.results import TaskFiles
from eat.report.table import Cell, Column, Group, Row, Table
from eat.report.verdicts import Comparison, Competitive
from eat.results.columns import PRUNING
from eat.results.rows import Record, in_setting_of, is_true

SAME_RETENTION = 0.03
"""The largest difference in retention after any layer that still counts as equal."""

OUTCOMES: Mapping[Comparison, str] = {
    "higher": "above that of",
    "lower": "below that of",
    "no difference shown": "not shown to differ from that of",
}
"""How a measure of one system compares with that of another, in words."""

_NORM, _RANDOM = "norm", "random"


def correlation_table(task: TaskFiles) -> Table | None:
    """A row per system that scores tokens, a column per layer; `None` if the study does not compare scores."""
    if task.importance is None:
        return None
    rows = task.importance
    layers = sorted(int(layer) for layer in rows["layer"].unique())
    columns = (
        Column("System", align="left"),
        Column("Score", align="left"),
        *(Column(f"Layer {rounding.count(layer)}", interval=True) for layer in layers),
        Column("All layers", "mean", interval=True),
    )
    lines = []
    for system, own in rows.groupby("system", sort=False):
        cells = [_correlation(own[own["layer"] == layer]) for layer in layers]
        lines.append(Row((Cell(str(system)), Cell(str(own["kind"].iloc[0])), *cells, _correlation(own))))
    caption = (
        f"Token scores on {task.name}: Spearman's rank correlation of each system's score with gradient saliency "
        f"of the dense reference, over the tokens that may be removed; means over {rounding.count(rows['n'].max())} "
        "dev texts run to full depth with nothing removed, with 95 % intervals. The interval of a mean over layers is "
        "as wide as theirs on average, since all layers are measured on the same texts."
    )
    return Table(caption, f"importance:{task.name}", columns, (Group("", tuple(lines)),))


def retention_table(task: TaskFiles, reference: str) -> Table | None:
    """The accuracy of systems that differ only in their score, group by group; `None` if there are none."""
    groups = [] if task.importance is None else equal_retention(task, reference)
    if not groups:
        return None
    kinds, rows = _kinds(task), _single(task)
    retention = Quantity("Retention", "retention_full_depth", rounding.retention, unit="full depth")
    parts = [
        (f"Same retention as {norm}", [{**rows[name], "score": kinds.get(name)} for name in (norm, *others)])
        for norm, *others in groups
    ]
    caption = (
        f"Accuracy at equal retention on {task.name}: systems that only remove or merge tokens. Within a group "
        f"they keep the same share of tokens after every layer, to within {rounding.percent(SAME_RETENTION)} points. "
        "Differences are from the dense reference. A dash instead of a score: the system merges tokens."
    )
    quantities = (SYSTEM, Quantity("Score", "score"), retention, ACCURACY, DELTA, WORK)
    return table_of(caption, f"equal-retention:{task.name}", quantities, parts)


def importance_sentences(task: TaskFiles, reference: str) -> list[str]:
    """Is the norm competitive? One sentence on correlation and one on accuracy per group of equal retention."""
    if task.importance is None:
        return []
    sentences = [sentence for _, sentence in norm_verdicts(task, reference)]
    highest = _highest_sentence(task.importance)
    found = [sentence for sentence in (*sentences, highest) if sentence]
    return found or ["This study has no system with the norm as its score, or none to compare it with."]


def norm_verdicts(task: TaskFiles, reference: str) -> list[tuple[Competitive, str]]:
    """Whether the norm is competitive, by accuracy and by correlation per group of equal retention, with sentences."""
    found = []
    for systems in [] if task.importance is None else equal_retention(task, reference):
        by_correlation = _by_correlation(task, systems)
        found += [_by_accuracy(task, systems), *([by_correlation] if by_correlation else [])]
    return found


def equal_retention(task: TaskFiles, reference: str) -> list[list[str]]:
    """Groups of systems: the first scores by the norm, and the others keep as many tokens after every layer.

    They only remove or merge tokens, in the reference's precision: no exits and no window.
    """
    kinds, plain = _kinds(task), in_setting_of(task.summary, reference)
    alone = task.buckets[is_true(task.buckets["chosen"]) & (task.buckets["adapts_by"] == PRUNING)]
    curves = {name: _alive(task, name) for name in dict.fromkeys(alone["system"]) if name in plain}
    groups = []
    for norm in (name for name in curves if kinds.get(name) == _NORM):
        equals = [
            name
            for name, alive in curves.items()
            if kinds.get(name) != _NORM
            and len(alive) == len(curves[norm])
            and bool(np.all(np.abs(alive - curves[norm]) <= SAME_RETENTION))
        ]
        if equals:
            groups.append([norm, *equals])
    return groups


def mean_correlation(rows: pd.DataFrame) -> tuple[float, float, float]:
    """The mean rho over layers and seeds, with an interval as wide as theirs on average.

    This is the widest possible interval, in which all errors are fully correlated.
    """
    middle, low, high = (float(rows[name].mean()) for name in ("rho", "rho_low", "rho_high"))
    return middle, low, high


def compared_scores(first: pd.DataFrame, second: pd.DataFrame) -> Comparison | None:
    """Compare the correlations of two scores over the layers that both score; `None` if there are none."""
    layers = set(first["layer"]) & set(second["layer"])
    if not layers:
        return None
    ends = [mean_correlation(rows[rows["layer"].isin(layers)])[1:] for rows in (first, second)]
    return verdicts.comparison(ends[0], ends[1])


def _alive(task: TaskFiles, system: str) -> np.ndarray:
    """The share of tokens alive after each layer, with all texts run to full depth; (L,)."""
    own = task.retention[(task.retention["system"] == system) & (task.retention["over"] == "all")]
    alive: np.ndarray = own.sort_values("layer")["observed"].to_numpy(float)
    return alive


def _kinds(task: TaskFiles) -> dict[str, str]:
    """System -> its kind of score."""
    assert task.importance is not None
    return dict(zip(task.importance["system"], task.importance["kind"], strict=True))


def _single(task: TaskFiles) -> dict[str, Record]:
    """System -> its chosen row of summary.csv at batch 1."""
    rows = task.summary[(task.summary["batch_size"] == 1) & is_true(task.summary["chosen"])]
    return {str(row["system"]): row for row in rows.to_dict("records")}


def _correlation(rows: pd.DataFrame) -> Cell:
    if rows["rho"].isna().all():  # the system scores no tokens in this layer
        return Cell(rounding.DASH)
    middle, low, high = mean_correlation(rows)
    return Cell(rounding.correlation(middle), rounding.interval(low, high, rounding.correlation))


# --- is the norm competitive? -------------------------------------------------------------------------------------


def _by_accuracy(task: TaskFiles, systems: Sequence[str]) -> tuple[Competitive, str]:
    norm, *others = systems
    rows, kinds = _single(task), _kinds(task)
    ends = {name: (float(rows[name]["delta_low"]), float(rows[name]["delta_high"])) for name in systems}
    outcomes = {name: verdicts.comparison(ends[norm], ends[name]) for name in others}
    own = rounding.interval(*ends[norm], rounding.points)
    subject = f"its accuracy differs by {rounding.points(rows[norm]['delta_accuracy'])} points {own} from the reference"
    return _sentence_of("accuracy at equal retention", norm, subject, outcomes, kinds)


def _by_correlation(task: TaskFiles, systems: Sequence[str]) -> tuple[Competitive, str] | None:
    """`None` if no layer is scored both by the norm and by another score."""
    assert task.importance is not None
    norm, *others = systems
    kinds, scored = _kinds(task), dict(list(task.importance.dropna(subset="rho").groupby("system")))
    if norm not in scored:
        return None
    outcomes = {
        name: outcome
        for name in others
        if name in scored and (outcome := compared_scores(scored[norm], scored[name])) is not None
    }
    if not outcomes:
        return None
    middle, low, high = mean_correlation(scored[norm])
    own = rounding.interval(low, high, rounding.correlation)
    subject = f"its rank correlation with saliency is {rounding.correlation(middle)} {own}"
    return _sentence_of("rank correlation with saliency", norm, subject, outcomes, kinds)


def _sentence_of(
    measure: str, norm: str, subject: str, outcomes: Mapping[str, Comparison], kinds: Mapping[str, str]
) -> tuple[Competitive, str]:
    """The verdict on a system that scores by the norm, with a sentence that gives the evidence."""
    controls = [name for name in outcomes if kinds.get(name) == _RANDOM]
    rivals = [name for name in outcomes if name not in controls]
    verdict = verdicts.competitive([outcomes[name] for name in rivals], [outcomes[name] for name in controls])
    phrases: Mapping[Competitive, str] = {
        "competitive": f"By {measure} the norm is competitive in {norm}",
        "not competitive": f"By {measure} the norm is not competitive in {norm}",
        "undecided": f"By {measure} it is not shown whether the norm is competitive in {norm}",
    }
    parts = [
        f"{OUTCOMES[outcome]} {listed(names)}"
        for outcome in OUTCOMES
        if (names := [_named(name, kinds) for name, found in outcomes.items() if found == outcome])
    ]
    return verdict, f"{phrases[verdict]}: {subject}, {', '.join(parts)}."


def _named(name: str, kinds: Mapping[str, str]) -> str:
    return f"{name} ({kinds[name]})" if name in kinds else name


def _highest_sentence(importance: pd.DataFrame) -> str:
    """The score with the highest correlation, over the layers it is used in, and the highest one of the norm."""
    means = {str(name): mean_correlation(own) for name, own in importance.groupby("system", sort=False)}
    means = {name: found for name, found in means.items() if not np.isnan(found[0])}
    kinds = dict(zip(importance["system"], importance["kind"], strict=True))
    norms = [name for name in means if kinds[name] == _NORM]
    if not norms or len(norms) == len(means):
        return ""
    best, norm = max(means, key=lambda name: means[name][0]), max(norms, key=lambda name: means[name][0])

    def described(name: str) -> str:
        middle, low, high = means[name]
        within = rounding.interval(low, high, rounding.correlation)
        return f"{name} ({kinds[name]}): {rounding.correlation(middle)} {within}"

    if best == norm:
        return (
            f"Of all scores in this study, the norm has the highest rank correlation with saliency: {described(norm)}."
        )
    return (
        "Of all scores in this study, each over the layers it is used in, the highest rank correlation with saliency "
        f"is that of {described(best)}; the highest one of the norm is that of {described(norm)}."
    )
