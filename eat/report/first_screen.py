"""The first screen of the report: the answer in one sentence, a short table, and how sure both are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eat import rounding
from eat.errors import listed
from eat.report.quantities import ACCURACY, DELTA, INT8, P50, SPEEDUP, SYSTEM, Quantity, table_of
from eat.report.results import TaskFiles
from eat.report.table import Table
from eat.report.verdicts import promise_verdict
from eat.results.picks import Baseline, Picks, chosen_at_1, pareto_front, picks_of
from eat.results.rows import Record
from eat.study.stock import SAME_MODEL, STOCK, STOCK_PREFIX, STRONGEST

MOST_ROWS = 8
"""The most rows of the short table."""

_NAMES = {STRONGEST: "the dense model in int8 in ONNX Runtime", STOCK: "the stock dense model"}
_SHORT = {STRONGEST: "dense int8", STOCK: "stock dense"}


@dataclass(frozen=True)
class FirstScreen:
    """What the first screen says about a task. facts: names and values; without a promise there is none on it."""

    answer: str
    facts: list[tuple[str, str]]
    table: Table
    picks: Picks


def first_screen(task: TaskFiles, reference: str) -> FirstScreen:
    """The first screen of a task."""
    picks = picks_of(task.summary, reference)
    facts = [
        (promise_name(task), promise_fact(task, picks)),
        ("Noise floor", noise_fact(picks.baseline)),
        sample_fact(task),
    ]
    return FirstScreen(
        answer(picks, reference), [(name, value) for name, value in facts if value], short_table(task, reference), picks
    )


def lead(screens: Sequence[FirstScreen]) -> str:
    """One sentence over several tasks: on how many a system is faster without a loss, and within a point.

    Empty for one task, whose own sentence says it.
    """
    if len(screens) < 2:
        return ""
    faster = [_is_faster(screen.picks.no_loss, screen.picks) for screen in screens]
    near = [one or _is_faster(screen.picks.within, screen.picks) for one, screen in zip(faster, screens, strict=True)]
    names = {screen.picks.baseline.system for screen in screens}
    than = _NAMES[names.pop()] if len(names) == 1 else "the fastest dense rival"
    return (
        f"On {rounding.count(sum(faster))} of {rounding.count(len(screens))} tasks a system is shown to be faster than "
        f"{than} with a loss of more than one point of accuracy excluded; on {rounding.count(sum(near))}, with a "
        "measured loss of at most one point."
    )


def _is_faster(row: Record | None, picks: Picks) -> bool:
    return row is not None and picks.baseline.verdict(row) == "faster"


def answer(picks: Picks, reference: str) -> str:
    """Which system to take without a loss, which within a point, and how much faster each is than the baseline."""
    if not picks.candidates:
        return f"No system was timed against {_NAMES[picks.baseline.system]}."
    first = _without_loss(picks, reference)
    second = _within(picks)
    return f"{first} {second}".strip()


def _without_loss(picks: Picks, reference: str) -> str:
    row, baseline = picks.no_loss, picks.baseline
    rival = _NAMES[baseline.system]
    if row is None:
        return "For no system is a loss of more than one point of accuracy excluded."
    difference = f"{_points(row)} points from {reference}"
    match baseline.verdict(row):
        case "faster":
            return (
                f"{row['system']} is {_times(row, baseline)} times as fast as {rival}, and a loss of more than one "
                f"point of accuracy is excluded ({difference})."
            )
        case "slower":
            how = f"the fastest, {row['system']}, has {_times(row, baseline)} times its speed ({difference})"
        case _:
            how = (
                f"{row['system']} is not shown to differ from it in speed, {_times(row, baseline)} times ({difference})"
            )
    return (
        "No system for which a loss of more than one point of accuracy is excluded is shown to be faster than "
        f"{rival}: {how}."
    )


def _within(picks: Picks) -> str:
    row, baseline = picks.within, picks.baseline
    if row is None:
        if picks.no_loss is None:
            return "None is measured at most one point below the dense reference either."
        return "It is also the fastest of those measured at most one point below."
    if picks.no_loss is not None and baseline.verdict(picks.no_loss) == "faster":
        return _beside(row, picks.no_loss, baseline)
    than = f" as {_NAMES[baseline.system]}" if picks.no_loss is None else ""  # else the first sentence names it
    says = f"{_times(row, baseline)} times as fast{than} ({_points(row)} points)"
    start = "Of those measured at most one point below, "
    match baseline.verdict(row):
        case "faster":
            return f"{start}{row['system']} is the fastest: {says}."
        case "slower":
            return f"{start}none is shown to be faster either; {row['system']} is {says}."
        case _:
            return f"{start}none is shown to be faster; {row['system']} is {says}."


def _beside(row: Record, no_loss: Record, baseline: Baseline) -> str:
    """A row within a point beside one without a loss: whether it is shown to be faster than that one, too."""
    speed, points = _times(row, baseline), f"{_points(row)} points"
    if baseline.ratio(row)[1] > baseline.ratio(no_loss)[2]:
        return f"{row['system']} is faster still, {speed} times, but such a loss is not excluded for it ({points})."
    return (
        f"{row['system']}, {speed} times as fast, is not shown to be faster than {no_loss['system']}, and such a loss "
        f"is not excluded for it ({points})."
    )


def _times(row: Record, baseline: Baseline) -> str:
    middle, low, high = baseline.ratio(row)
    return rounding.with_interval(middle, low, high, rounding.speedup)


def _points(row: Record) -> str:
    return rounding.with_interval(row["delta_accuracy"], row["delta_low"], row["delta_high"], rounding.points)


def promise_name(task: TaskFiles) -> str:
    """The name of the fact, with what is promised if all systems promise the same."""
    made = _promised(task)
    return f"Promises ({made[0]})" if len(made) == 1 else "Promises"


def _promised(task: TaskFiles) -> list[str]:
    """What the systems of a task promise, each once."""
    return list(dict.fromkeys(_promise_in_words(row) for row in task.promises.to_dict("records")))


def _promise_in_words(row: Record) -> str:
    what = "answers changed" if row["risk"] == "disagreement" else "correct answers lost"
    return f"at most {rounding.risk(row['epsilon'])} % of {what}"


def promise_fact(task: TaskFiles, picks: Picks) -> str:
    """How many promises dev shows to be kept or broken, with the one of a picked system; empty if there are none."""
    if task.promises.empty:
        return ""
    made = task.promises.to_dict("records")
    tally = Counter(_kept(row) for row in made)
    counts = listed(f"{rounding.count(tally[word])} {word}" for word in _KEPT if tally[word])
    picked = [row for row in made if row["system"] in picks.systems]
    if len(picked) != 1 or _kept(picked[0]) == _KEPT[-1]:
        return f"{counts} on dev"
    (row,) = picked
    within = rounding.interval(row["observed_low"], row["observed_high"], rounding.risk)
    what = f"{_promise_in_words(row)}, " if len(_promised(task)) > 1 else ""  # else the name says it
    return f"{counts} on dev; {row['system']}: {what}observed {rounding.risk(row['observed'])} % {within}"


_KEPT = ("kept", "broken", "not decided", "without early exits")
"""The last one: no threshold keeps the promise, so that no text exits early, and no text is a test of it."""


def _kept(row: Record) -> str:
    if row["tau"] >= 1:
        return _KEPT[-1]
    verdict = promise_verdict(row["epsilon"], row["observed_low"], row["observed_high"])
    return "not decided" if verdict == "undecided" else verdict


def noise_fact(baseline: Baseline) -> str:
    """The ratios that the clock gives without a difference; empty if nothing was timed twice."""
    if baseline.noise is None:
        return ""
    floor, ceiling = baseline.noise.band
    band = rounding.interval(floor, ceiling, rounding.speedup)
    return f"speed-ups within {band} show no difference (a model timed against itself)"


def sample_fact(task: TaskFiles) -> tuple[str, str]:
    """The texts, seeds and processor behind the answer."""
    timing, seeds = task.timing, int(task.summary["seeds"].max())
    machine = timing["machine"]
    processor = machine["gpu"] if timing["device"] == "cuda" else machine["cpu"]
    return (
        "Measured on",
        f"{rounding.count(task.summary['n'].max())} dev texts, {rounding.count(seeds)} "
        f"{'seed' if seeds == 1 else 'seeds'}; {processor}, {rounding.count(timing['threads'])} threads",
    )


# --- the short table ----------------------------------------------------------------------------------------------


def short_rows(task: TaskFiles, reference: str) -> list[Record]:
    """At most `MOST_ROWS` chosen rows at batch 1, the slowest first, each with `why` it is there.

    In the order of their claim to a row: what the answer names, the baseline, the stock model, the reference, the
    others on the Pareto front (the fastest first), the other dense rivals. Rows without an accuracy, and repetitions
    of the stock model, have no claim.
    """
    picks = picks_of(task.summary, reference)
    chosen = chosen_at_1(task.summary)
    chosen = chosen[chosen["accuracy"].notna() & ~chosen["system"].isin(set(SAME_MODEL) - {STOCK})]
    chosen = chosen.sort_values("latency_ms_p50", kind="stable")
    front = pareto_front(chosen["latency_ms_p50"].to_numpy(float), chosen["accuracy"].to_numpy(float))
    rivals = [name for name in chosen["system"] if str(name).startswith(STOCK_PREFIX)]
    why: dict[str, str] = {}
    for row, word in ((picks.no_loss, "loss of 1 pp excluded"), (picks.within, "within 1 pp")):
        if row is not None:
            why[str(row["system"])] = word
    for name, word in (
        (picks.baseline.system, "baseline of speed"),
        (STOCK, "stock model"),
        (reference, "reference of accuracy"),
    ):
        why.setdefault(name, word)
    for name in chosen["system"].iloc[front]:
        why.setdefault(str(name), "on the Pareto front")
    for name in rivals:
        why.setdefault(str(name), "dense rival")
    by_system: dict[str, Record] = {str(row["system"]): row for row in chosen.to_dict("records")}
    kept = [name for name in why if name in by_system][:MOST_ROWS]
    rows = [{**by_system[name], "why": why[name]} for name in kept]
    return sorted(rows, key=lambda row: -float(row["latency_ms_p50"]))


def short_table(task: TaskFiles, reference: str) -> Table:
    """The rows of `short_rows`."""
    rows = short_rows(task, reference)
    picks = picks_of(task.summary, reference)
    ratio = INT8 if picks.baseline.system == STRONGEST else SPEEDUP
    # a reader of the first screen has not seen the other tables: what a value is compared with stands in its heading
    ratio = replace(ratio, title="Speed-up", unit=f"vs. {_SHORT[picks.baseline.system]}")
    accuracy, difference = replace(ACCURACY, bounds=None), replace(DELTA, unit=f"pp from {reference}")
    quantities = (SYSTEM, ratio, P50, accuracy, difference, Quantity("Why it is here", "why"))
    caption = (
        f"{task.name}, batch size 1, the slowest first, at most {rounding.count(MOST_ROWS)} rows, with 95 % intervals. "
        f"Systems named above were picked from {rounding.count(picks.candidates)} "
        "on the texts that also give the intervals."
    )
    return table_of(caption, f"first:{task.name}", quantities, [("", rows)])
