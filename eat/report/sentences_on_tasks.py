"""The sentences of the report about a task. The numbers decide which sentence is printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from eat import rounding
from eat.errors import listed
from eat.report import verdicts
from eat.report.results import TaskFiles
from eat.report.sentences_on_rows import accuracy_sentence, noise_sentence, speed_sentence
from eat.report.verdicts import NoiseFloor
from eat.results.rows import Record, is_true


def overview(single: Sequence[Record], noise: NoiseFloor) -> str:
    """How many systems are faster, slower, or not shown to differ, at batch 1."""
    timed = [row for row in single if not pd.isna(row["speedup_low"])]
    if not timed:
        return "No system was timed."
    counts = Counter(verdicts.speed_verdict(row["speedup_low"], row["speedup_high"], noise) for row in timed)
    phrases: dict[verdicts.Speed, tuple[str, str]] = {
        "faster": ("is faster", "are faster"),
        "slower": ("is slower", "are slower"),
        "no difference shown": ("shows no difference", "show no difference"),
    }
    parts = [
        f"{rounding.count(counts[verdict])} {one if counts[verdict] == 1 else several}"
        for verdict, (one, several) in phrases.items()
        if counts[verdict]
    ]
    return (
        f"Of {rounding.count(len(timed))} systems at their chosen thresholds, compared with the stock dense model at "
        f"batch size 1, {listed(parts)}."
    )


def best_sentences(single: Sequence[Record], reference: str) -> list[str]:
    """The fastest system at batch 1 that excludes a loss of one point, and the fastest at most one point below.

    The dense reference is not considered. The fastest system is selected on the dev texts that also give its interval;
    if there are several candidates, a sentence states this.
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
            f"These are selected from {rounding.count(len(timed))} systems on the same dev texts, and the intervals "
            "are not corrected for this selection."
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
    """The data behind a figure of a task: texts, device and seeds."""
    rows, timing = task.summary, task.timing
    seeds = int(rows["seeds"].max())
    return (
        f"{rounding.count(rows['n'].max())} dev texts, {rounding.count(timing['n_timed'])} of them timed; "
        f"{processor(timing)}, {rounding.count(timing['threads'])} threads; "
        f"{rounding.count(seeds)} {'seed' if seeds == 1 else 'seeds'}."
    )


def finding(row: Record, trained: pd.DataFrame, noise: dict[int, NoiseFloor], reference: str) -> str:
    """The findings about one system: time and accuracy at batch 1, time at the other batch sizes."""
    sentences = [speed_sentence(row, noise[1]), accuracy_sentence(row, reference)]
    if not pd.isna(row["tau"]) and not is_true(pd.Series([row["within_budget"]])).all():
        sentences.append(
            "None of its thresholds is within the accuracy budget on the calibration split, so the most accurate one "
            "there was chosen."
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
    """The behaviour of each adaptive system at its chosen threshold: depth, early exits, tokens alive."""
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
            f"{rounding.with_percent(early)} of the texts exit before its last layer. When the prediction is made, "
            f"{rounding.retention(row['avg_retention'])} of the tokens of a text are alive; at full depth it would be "
            f"{rounding.retention(row['retention_full_depth'])}."
        )
    return sentences or ["No system of this study removes tokens or exits early."]


def calibration_sentence(row: Record) -> str:
    """The calibration error of a system before and after scaling, or its only error if it is not scaled."""
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
    """The computation and accuracy of a system and its variants, and whether a part's effect on accuracy is shown."""
    (full,) = ablation[ablation["role"] == "full"].to_dict("records")
    variants = ablation[ablation["role"] == "variant"].to_dict("records")

    def described(row: Record) -> str:
        gained = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
        return f"{rounding.with_percent(row['compute'])} at {rounding.points(row['delta_accuracy'])} points {gained}"

    others = "; ".join(f"{row['system']} {described(row)}" for row in variants)
    sentences = [
        f"Share of the dense reference's FLOPs, and difference in accuracy: "
        f"{full['system']} {described(full)}; {others}."
    ]
    apart = [
        row["system"]
        for row in variants
        if row["delta_low"] > full["delta_high"] or row["delta_high"] < full["delta_low"]
    ]
    if apart:
        sentences.append(f"The accuracy interval does not overlap that of {full['system']} for: {listed(apart)}.")
    else:
        sentences.append(f"The accuracy interval of every variant overlaps that of {full['system']}.")
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
        f"{rounding.count(timing['threads'])} threads; all systems ran in turn, in one process, on the same texts.",
        f"Tokenisation is timed separately: {rounding.milliseconds(timing['tokenization_ms_per_text'])} ms per text.",
        f"Meanwhile, other processes used {rounding.with_percent(timing['foreign_load'])} of the machine's time, in "
        f"the busiest block {rounding.with_percent(timing['foreign_load_busiest_block'])}.",
        *left_out_sentences(timing),
    ]
    if different:
        sentences.append(
            f"Of {rounding.count(compared)} timed answers (class, depth and tokens), {rounding.count(different)} "
            f"differ from the trace, each at a threshold or a tie; up to {rounding.count(allowed)} are allowed."
        )
    else:
        sentences.append(
            f"All {rounding.count(compared)} timed answers (class, depth and tokens) agree with the trace."
        )
    return sentences


def left_out_sentences(timing: Mapping[str, Any]) -> list[str]:
    """The stock rows that were not timed, and why; empty for results that do not record it."""
    return [f"{name} was not timed: {reason}." for name, reason in timing.get("left_out", {}).items()]


def noise_of_batch(batch: int, floor: NoiseFloor) -> str:
    """The result of the A/A run at a batch size."""
    return f"Batch size {rounding.count(batch)}. {noise_sentence(floor)}"


def warning(task: TaskFiles) -> str:
    """Limits of the results of a task: a busy machine, and warnings about its text; empty if there are none."""
    doubts = [f"Warning about the text: {line}." for line in task.card["warnings"]]
    if task.timing["busy"]:
        doubts.insert(
            0,
            f"The machine was busy with other work while {task.name} was timed. Times and speed-ups of this task may "
            "be off by more than their intervals say; time it again on a quiet machine before quoting them.",
        )
    return " ".join(doubts)


def task_facts(task: TaskFiles) -> list[tuple[str, str]]:
    """Facts about the text of a task, as names and values."""
    card, timing = task.card, task.timing
    splits = ", ".join(f"{rounding.count(number)} {name}" for name, number in card["splits"].items())
    source = ", ".join(f"{key} {value[:16] if key == 'sha256' else value}" for key, value in card["source"].items())
    return [
        ("Source", source),
        ("Kind", "pairs of texts" if card["pair"] else "single texts"),
        ("Labels", listed(card["labels"])),
        ("Rows", ", ".join(f"{rounding.count(number)} {name}" for name, number in card["rows"].items())),
        ("Splits", splits),
        ("Texts timed", rounding.count(timing["n_timed"])),
    ]


def processor(timing: Mapping[str, Any]) -> str:
    """The name of the processor that computed."""
    machine = timing["machine"]
    return str(machine["gpu"] if timing["device"] == "cuda" else machine["cpu"])


def precisions(timing: Mapping[str, Any]) -> str:
    """The precisions that were timed."""
    return listed(dict.fromkeys(timing["precisions"].values()))
