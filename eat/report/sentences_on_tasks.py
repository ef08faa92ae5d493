"""The sentences of the report about a task. The numbers decide which sentence is printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from eat import rounding
from eat.errors import listed
from eat.report.results import TaskFiles
from eat.results.noise import NoiseFloor


def sample(task: TaskFiles) -> str:
    """The data behind a figure of a task: texts, device and seeds."""
    rows, timing = task.summary, task.timing
    seeds = int(rows["seeds"].max())
    return (
        f"{rounding.count(rows['n'].max())} dev texts, {rounding.count(timing['n_timed'])} of them timed; "
        f"{processor(timing)}, {rounding.count(timing['threads'])} threads; "
        f"{rounding.count(seeds)} {'seed' if seeds == 1 else 'seeds'}."
    )


def ablation_sentences(ablation: pd.DataFrame) -> list[str]:
    """Whether the effect of a part on accuracy is shown; the table has the numbers."""
    (full,) = ablation[ablation["role"] == "full"].to_dict("records")
    variants = ablation[ablation["role"] == "variant"].to_dict("records")

    apart = [
        row["system"]
        for row in variants
        if row["delta_low"] > full["delta_high"] or row["delta_high"] < full["delta_low"]
    ]
    if apart:
        return [f"The accuracy interval does not overlap that of {full['system']} for: {listed(apart)}."]
    return [f"The accuracy interval of every variant overlaps that of {full['system']}."]


def measuring_facts(task: TaskFiles, noise: Mapping[int, NoiseFloor]) -> list[tuple[str, str]]:
    """How a task was timed, if the timed answers agree with the trace, and the noise floor of each batch size."""
    timing = task.timing
    compared, different, allowed = (
        sum(int(entry[key]) for entry in timing["agreement"]) for key in ("compared", "different", "allowed")
    )
    answers = f"All {rounding.count(compared)} timed answers (class, depth and tokens) agree with the trace."
    if different:
        answers = (
            f"Of {rounding.count(compared)} timed answers (class, depth and tokens), {rounding.count(different)} "
            f"{'differs' if different == 1 else 'differ'} from the trace, each at a threshold or a tie; up to "
            f"{rounding.count(allowed)} are allowed."
        )
    return [
        (
            "Clock",
            f"{rounding.count(timing['n_timed'])} texts on {processor(timing)} in {precisions(timing)} with "
            f"{rounding.count(timing['threads'])} threads; all systems ran in turn, in one process, on the same texts",
        ),
        ("Tokenisation", f"{rounding.milliseconds(timing['tokenization_ms_per_text'])} ms per text, timed separately"),
        (
            "Other processes",
            f"{rounding.with_percent(timing['foreign_load'])} of the machine's time, in the busiest block "
            f"{rounding.with_percent(timing['foreign_load_busiest_block'])}",
        ),
        *(("Left out", sentence) for sentence in left_out_sentences(timing)),
        ("Answers", answers),
        *((f"Noise, batch {rounding.count(batch)}", noise_sentence(floor)) for batch, floor in noise.items()),
    ]


def left_out_sentences(timing: Mapping[str, Any]) -> list[str]:
    """The stock rows that were not timed, and why; empty for results that do not record it."""
    return [f"{name} was not timed: {reason}." for name, reason in timing.get("left_out", {}).items()]


def noise_sentence(noise: NoiseFloor) -> str:
    """The result of the A/A run, as a sentence about the clock."""
    within = rounding.interval(noise.low, noise.high, rounding.speedup)
    floor, ceiling = noise.band
    is_shown = noise.low > 1 or noise.high < 1
    shown = "the clock shows a difference although there is none" if is_shown else "no difference is shown"
    return (
        f"The stock dense model timed against itself gives a ratio of {rounding.x_times(noise.ratio)} (95 % interval "
        f"{within}), mean {rounding.x_times(noise.mean)}; {shown}. A "
        f"speed-up counts as a difference only if its interval lies outside "
        f"{rounding.interval(floor, ceiling, rounding.speedup)}."
    )


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
    digests = {key for key in card["source"] if key.endswith("sha256")}
    source = ", ".join(f"{key} {value[:16] if key in digests else value}" for key, value in card["source"].items())
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
