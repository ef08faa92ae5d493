"""What is said about a task: every sentence is chosen by the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from eat import rounding
from eat.errors import listed
from eat.report import verdicts
from eat.report.results import TaskFiles
from eat.report.sentences import accuracy_sentence, noise_sentence, speed_sentence
from eat.report.verdicts import NoiseFloor
from eat.results.rows import is_true

Record = Mapping[Hashable, Any]


def overview(single: Sequence[Record], noise: NoiseFloor) -> str:
    """How many systems are faster, slower, or not told apart, at batch 1."""
    timed = [row for row in single if not pd.isna(row["speedup_low"])]
    if not timed:
        return "No system was timed."
    counts = Counter(verdicts.speed_verdict(row["speedup_low"], row["speedup_high"], noise) for row in timed)
    said: dict[verdicts.Speed, tuple[str, str]] = {
        "faster": ("is faster", "are faster"),
        "slower": ("is slower", "are slower"),
        "no difference shown": ("shows no difference", "show no difference"),
    }
    parts = [
        f"{rounding.count(counts[verdict])} {one if counts[verdict] == 1 else several}"
        for verdict, (one, several) in said.items()
        if counts[verdict]
    ]
    return (
        f"Of {rounding.count(len(timed))} systems at their chosen thresholds, timed at batch size 1 against the stock "
        f"dense model, {listed(parts)}."
    )


def best_sentences(single: Sequence[Record], reference: str) -> list[str]:
    """The fastest systems at batch 1: of those that exclude a loss of a point, and of those at most a point below.

    The dense reference is none of them: it loses nothing to itself. Who is fastest is read off the dev texts that also
    give its interval, which is said where there was a choice.
    """
    timed = [row for row in single if row["system"] != reference and not pd.isna(row["speedup_vs_dense"])]
    kept = [row for row in timed if verdicts.excludes_a_loss(row["delta_low"])]
    near = [row for row in timed if row["delta_accuracy"] >= -verdicts.LOSS_BOUND]
    sentences = []
    if kept:
        sentences.append(
            "The fastest system whose interval excludes a loss of one point of accuracy is "
            f"{_described(_fastest(kept))}."
        )
    else:
        sentences.append("For no system of the main table does the interval exclude a loss of one point of accuracy.")
    if near and (not kept or _fastest(near) is not _fastest(kept)):
        sentences.append(
            "The fastest whose measured accuracy is at most one point below that of the dense reference is "
            f"{_described(_fastest(near))}."
        )
    if len(timed) > 1 and (kept or near):
        sentences.append(
            f"This looks at {rounding.count(len(timed))} systems on the same dev texts, and the intervals make no "
            "allowance for that."
        )
    return sentences


def _fastest(rows: Sequence[Record]) -> Record:
    return max(rows, key=lambda row: float(row["speedup_vs_dense"]))


def _described(row: Record) -> str:
    at: str = "" if pd.isna(row["tau"]) else f" at threshold {rounding.threshold(row['tau'])}"
    within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
    gained = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
    ratio, points = rounding.x_times(row["speedup_vs_dense"]), rounding.points(row["delta_accuracy"])
    return (
        f"{row['system']}{at}: {ratio} {within} the speed of the stock dense model, accuracy {points} points {gained}"
    )


def sample(task: TaskFiles) -> str:
    """What a figure of a task rests on: texts, device and seeds."""
    rows, timing = task.summary, task.timing
    seeds = int(rows["seeds"].max())
    return (
        f"{rounding.count(rows['n'].max())} dev texts, {rounding.count(timing['n_timed'])} of them timed; "
        f"{processor(timing)}, {rounding.count(timing['threads'])} threads; "
        f"{rounding.count(seeds)} {'seed' if seeds == 1 else 'seeds'}."
    )


def finding(row: Record, trained: pd.DataFrame, noise: dict[int, NoiseFloor], reference: str) -> str:
    """What is shown about one system: time and accuracy at batch 1, time at the other batch sizes."""
    sentences = [speed_sentence(row, noise[1]), accuracy_sentence(row, reference)]
    if not pd.isna(row["tau"]) and not is_true(pd.Series([row["within_budget"]])).all():
        sentences.append(
            "None of its thresholds stayed within the accuracy budget on the calibration split, so that its most "
            "accurate one there was chosen."
        )
    if not pd.isna(row["speedup_vs_packed_dense"]) and row["system"] != reference:
        ratio = rounding.x_times(row["speedup_vs_packed_dense"])
        sentences.append(f"Against {reference} in the same packed engine the median paired ratio is {ratio}.")
    if not pd.isna(row["speedup_vs_deep"]):
        ratio = rounding.x_times(row["speedup_vs_deep"])
        sentences.append(f"Against the deeper stock model with random weights (latency only) the ratio is {ratio}.")
    others = trained[(trained["system"] == row["system"]) & (trained["batch_size"] > 1)].sort_values("batch_size")
    for other in others.to_dict("records"):
        sentences.append(speed_sentence(other, noise[int(other["batch_size"])]))
    return " ".join(sentences)


def adaptive_sentences(single: Sequence[Record], exits: pd.DataFrame) -> list[str]:
    """What each adaptive system does at its chosen threshold: depth, early exits, tokens alive."""
    sentences = []
    for row in single:
        system = str(row["system"])
        own = exits[(exits["system"] == system) & is_true(exits["chosen"])]
        last = exits.loc[exits["system"] == system, "exit"].max()
        early = float(own.loc[own["exit"] < last, "fraction"].sum())
        if pd.isna(row["tau"]) and row["retention_full_depth"] >= 1 and early == 0:
            continue
        at: str = "" if pd.isna(row["tau"]) else f" at its chosen threshold of {rounding.threshold(row['tau'])}"
        sentences.append(
            f"{system}{at} executes {rounding.depth(row['avg_depth'])} layers on average, and "
            f"{rounding.with_percent(early)} of the texts leave before its last layer. When the prediction is made, "
            f"{rounding.retention(row['avg_retention'])} of a text's tokens are alive; run to full depth, it would be "
            f"{rounding.retention(row['retention_full_depth'])}."
        )
    return sentences or ["No system of this study removes tokens or leaves early."]


def calibration_sentence(row: Record) -> str:
    """The calibration error of a system before and after scaling; of one without scaling, its error."""
    if row["calibration"] == "raw":
        return (
            f"The expected calibration error of {row['system']}, whose probabilities are not scaled, is "
            f"{rounding.calibration_error(row['ece_raw'])} %."
        )
    sentence = (
        f"The expected calibration error of {row['system']} is {rounding.calibration_error(row['ece_raw'])} % with raw "
        f"and {rounding.calibration_error(row['ece_calibrated'])} % with calibrated probabilities"
    )
    if pd.isna(row["ece_debiased"]) or pd.isna(row["ece_debiased_low"]) or pd.isna(row["ece_debiased_high"]):
        return sentence + "."
    within = rounding.interval(row["ece_debiased_low"], row["ece_debiased_high"], rounding.calibration_error)
    return f"{sentence}; debiased {rounding.calibration_error(row['ece_debiased'])} %, 95 % interval {within}."


def ablation_sentences(ablation: pd.DataFrame) -> list[str]:
    """What a system and its variants compute and win, and whether a part's effect on accuracy is shown."""
    (full,) = ablation[ablation["role"] == "full"].to_dict("records")
    variants = ablation[ablation["role"] == "variant"].to_dict("records")

    def told(row: Record) -> str:
        gained = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
        return f"{rounding.with_percent(row['compute'])} at {rounding.points(row['delta_accuracy'])} points {gained}"

    others = "; ".join(f"{row['system']} {told(row)}" for row in variants)
    sentences = [
        f"Of the FLOPs of the dense reference, {full['system']} computes {told(full)} of accuracy against it; {others}."
    ]
    apart = [
        row["system"]
        for row in variants
        if row["delta_low"] > full["delta_high"] or row["delta_high"] < full["delta_low"]
    ]
    if apart:
        sentences.append(f"The interval of accuracy lies apart from that of {full['system']} for: {listed(apart)}.")
    else:
        sentences.append(f"No variant's interval of accuracy lies apart from that of {full['system']}.")
    return sentences


def measuring_sentences(task: TaskFiles) -> list[str]:
    """How a task was timed, and whether the timed answers agree with the trace."""
    timing = task.timing
    agreement = timing["agreement"]
    compared, different, allowed = (
        sum(int(entry[key]) for entry in agreement) for key in ("compared", "different", "allowed")
    )
    sentences = [
        f"{rounding.count(timing['n_timed'])} texts were timed on {processor(timing)} in {precisions(timing)} with "
        f"{rounding.count(timing['threads'])} threads; all systems ran in turn, in one process, over the same texts.",
        f"Tokenisation is timed apart: {rounding.milliseconds(timing['tokenization_ms_per_text'])} ms a text.",
        f"Meanwhile other processes took {rounding.with_percent(timing['foreign_load'])} of the machine's time, in the "
        f"busiest block {rounding.with_percent(timing['foreign_load_busiest_block'])}.",
        *left_out_sentences(timing),
    ]
    if different:
        sentences.append(
            f"Of {rounding.count(compared)} timed answers (class, depth and tokens), {rounding.count(different)} "
            f"differ from the trace, each at a threshold or a tie; up to {rounding.count(allowed)} may."
        )
    else:
        sentences.append(
            f"All of {rounding.count(compared)} timed answers (class, depth and tokens) agree with the trace."
        )
    return sentences


def left_out_sentences(timing: Mapping[str, Any]) -> list[str]:
    """Which stock rows of the study were not timed, and why; none of results that do not record it."""
    return [f"{name} was not timed: {reason}." for name, reason in timing.get("left_out", {}).items()]


def noise_of_batch(batch: int, floor: NoiseFloor) -> str:
    """What the A/A run says at a batch size."""
    return f"Batch size {rounding.count(batch)}. {noise_sentence(floor)}"


def warning(task: TaskFiles) -> str:
    """What limits the results of a task: a busy machine, and what is doubtful about its text; else empty."""
    doubts = [f"Of the text: {line}." for line in task.card["warnings"]]
    return " ".join([*([_busy_warning(task)] if task.timing["busy"] else []), *doubts])


def _busy_warning(task: TaskFiles) -> str:
    return (
        f"The machine was busy with other work while {task.name} was timed. Times and speed-ups of this task may be "
        "off by more than their intervals say; time it again on a quiet machine before quoting them."
    )


def task_facts(task: TaskFiles) -> tuple[tuple[str, str], ...]:
    """What the text of a task is, as names and values."""
    card, timing = task.card, task.timing
    splits = ", ".join(f"{rounding.count(number)} {name}" for name, number in card["splits"].items())
    source = ", ".join(f"{key} {value[:16] if key == 'sha256' else value}" for key, value in card["source"].items())
    facts = [
        ("Source", source),
        ("Kind", "pairs of texts" if card["pair"] else "single texts"),
        ("Labels", listed(card["labels"])),
        ("Rows", ", ".join(f"{rounding.count(number)} {name}" for name, number in card["rows"].items())),
        ("Splits", splits),
        ("Texts timed", rounding.count(timing["n_timed"])),
    ]
    return tuple(facts)


def processor(timing: Mapping[str, Any]) -> str:
    """What computed, by the name its maker gave it."""
    machine = timing["machine"]
    return str(machine["gpu"] if timing["device"] == "cuda" else machine["cpu"])


def precisions(timing: Mapping[str, Any]) -> str:
    """The precisions that were timed."""
    return listed(dict.fromkeys(timing["precisions"].values()))
