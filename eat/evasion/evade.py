"""Attacks on exported models: run, counted and written.

Every attack is on the same texts, so that models and kinds of edits can be compared. Models are asked as they would be
in use; only what an attack reached is also answered at full depth, to see whether the early exit was to blame.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eat.errors import EatError, listed
from eat.evasion.attack import GOALS, KINDS, Attack, Attempt, Words, attempt
from eat.evasion.options import ALL, EvadeOptions
from eat.evasion.speed import speeds
from eat.evasion.tables import attacks_table, speeds_table
from eat.evasion.texts import LabelledText, read_labelled
from eat.files import replacing_folder, sha256_of, write_json
from eat.progress import Progress
from eat.runtime.classifier import AdaptiveClassifier
from eat.runtime.manifest import MODEL, read_manifest
from eat.statistics import exact_interval

if TYPE_CHECKING:
    from eat.runtime.manifest import Manifest

RESULT, EDITS, CHECK = "evasion.json", "edits.csv", "check.csv"
COLUMNS = ("model", "goal", "kind", "row", "label", "reached", "queries", "before", "after", "layers", "text", "edited")
KEPT = "label_kept"
"""The column of `CHECK` that a person fills: yes or no."""


@dataclass(frozen=True)
class Done:
    """An attack on a model: the attempt on each text, and, for what it reached, the answer at full depth."""

    model: str
    goal: str
    kind: str
    layers: int
    attempts: Sequence[Attempt]
    at_full_depth: Mapping[int, str]


def evade(options: EvadeOptions) -> str:
    """Attack the models, write the results, and return the tables.

    Raises `EatError` if the models have different labels or take pairs, an option does not fit, or a file is damaged.
    """
    manifests = {folder.resolve().name: read_manifest(folder) for folder in options.folders}
    labels = _common_labels(manifests)
    chosen, words = _chosen(options, labels)
    models = {name: AdaptiveClassifier.load(one.folder, threads=1) for name, one in manifests.items()}
    done = []
    attacks = [(name, *attack) for attack in options.attacks for name in models if _can(manifests[name], attack[0])]
    if not attacks:
        raise EatError(f"none of the models exits early, and --goal is {listed(options.goals)}; give: wrong")
    for number, (name, goal, kind) in enumerate(attacks, start=1):
        what = f"attack {number} of {len(attacks)}, {name}, {goal}, {kind}: tried"
        done.append(_attacked(options, models[name], (name, goal, kind), chosen, words, what))
    measured = speeds(models, [one.text for one in chosen], [one.label for one in chosen])
    rows = [_rates(one, chosen) for one in done]
    _write(options, manifests, chosen, done, rows, measured)
    return f"{speeds_table(measured)}\n\n{attacks_table(rows)}\n\nWritten to {options.to}."


def _common_labels(manifests: Mapping[str, Manifest]) -> list[str]:
    """The labels of all models. Raises `EatError` if they differ, or a model is of pairs."""
    first_name, first = next(iter(manifests.items()))
    for name, one in manifests.items():
        if set(one.labels) != set(first.labels):
            raise EatError(
                f"{name} answers {listed(one.labels)}, but {first_name} {listed(first.labels)}; attack models of one "
                "task"
            )
        if one.texts == 2:
            raise EatError(f"{one.folder}: a model of pairs of texts; attacks are on single texts")
    return list(first.labels)


def _can(manifest: Manifest, goal: str) -> bool:
    return bool(manifest.rule) or not GOALS[goal].needs_exits


def _chosen(options: EvadeOptions, labels: list[str]) -> tuple[list[LabelledText], Words]:
    """The texts to attack, and the words for edits."""
    if options.only is not None and options.only not in labels:
        raise EatError(f"--only: found {options.only!r}; give a label of the models: {listed(labels)}")
    texts = read_labelled(options.texts, options.column, options.label, labels, options.form)
    wanted = [one for one in texts if options.only in (None, one.label)]
    if not wanted:
        raise EatError(f"{options.texts}: no text of the label {options.only!r}")
    picked = random.Random(options.seed).sample(wanted, min(options.count, len(wanted)))
    attacked = {one.row for one in picked}
    if options.words is None:
        source = [one for one in texts if one.row not in attacked]
    else:
        known = {one.text for one in picked}
        read = read_labelled(options.words, options.column, options.label, labels, options.form)
        source = [one for one in read if one.text not in known]
    if not source:
        raise EatError(f"{options.texts}: all texts are attacked, and none is left for words; give --words, or --count")
    return picked, Words.of([(one.text, one.label) for one in source], labels)


def _attacked(
    options: EvadeOptions,
    model: AdaptiveClassifier,
    names: tuple[str, str, str],
    texts: Sequence[LabelledText],
    words: Words,
    what: str,
) -> Done:
    """Attack all texts, several at the same time."""
    name, goal, kind = names
    attack = Attack(goal, KINDS if kind == ALL else (kind,), options.queries, options.edits)
    layers = model.manifest.exits[-1]

    def one(text: LabelledText) -> Attempt:
        return attempt(lambda asked: model([asked])[0], attack, text.text, text.label, layers, words)

    with Progress(what, len(texts), "texts") as progress, ThreadPoolExecutor(options.threads) as pool:
        calls = [pool.submit(one, text) for text in texts]
        attempts = []
        try:
            for call in calls:
                attempts.append(call.result())
                progress.advance()
        except BaseException:  # also an interrupt, which must not wait for all texts
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    full = {}
    if model.manifest.rule and model.runs_at_full_depth:
        for number, found in enumerate(attempts):
            if found.reached:
                [encoding] = model.encode([found.text])
                full[number] = model.trace(encoding, full_depth=True).answer.label
    return Done(name, goal, kind, layers, attempts, full)


def _rates(done: Done, texts: Sequence[LabelledText]) -> dict[str, Any]:
    """What an attack reached: of the texts that could be attacked, and by label.

    right_at_full_depth: how many of the texts that it reached are answered rightly without early exits.
    """
    tried = [found for found in done.attempts if found.applies]
    reached = [found for found in tried if found.reached]
    row = {
        "model": done.model,
        "goal": done.goal,
        "kind": done.kind,
        "texts": len(texts),
        **_rate(len(reached), len(tried)),
        "by_label": {
            label: _rate(
                sum(found.reached for found in tried if found.label == label),
                sum(found.label == label for found in tried),
            )
            for label in dict.fromkeys(one.label for one in texts)
        },
        "queries": _mean([found.queries for found in tried]),
        "edits": _mean([len(found.edits) for found in reached]),
        "layers_before": _mean([found.before.depth for found in tried]),
        "layers_after": _mean([found.after.depth for found in tried]),
    }
    if done.at_full_depth and done.goal != "slow":
        blamed = sum(done.attempts[number].label == answer for number, answer in done.at_full_depth.items())
        row["right_at_full_depth"] = _rate(blamed, len(done.at_full_depth))
    return row


def _rate(reached: int, tried: int) -> dict[str, Any]:
    """A share with its exact interval; `None` if nothing was tried."""
    low, high = exact_interval(reached, tried) if tried else (None, None)
    return {"tried": tried, "reached": reached, "rate": reached / tried if tried else None, "low": low, "high": high}


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _write(
    options: EvadeOptions,
    manifests: Mapping[str, Manifest],
    texts: Sequence[LabelledText],
    done: Sequence[Done],
    rows: Sequence[Mapping[str, Any]],
    measured: Mapping[str, Any],
) -> None:
    about = {
        "texts": {"file": str(options.texts), "sha256": sha256_of(options.texts), "attacked": len(texts)},
        "words": None if options.words is None else {"file": str(options.words), "sha256": sha256_of(options.words)},
        "limits": {"queries": options.queries, "edits": options.edits, "only": options.only, "seed": options.seed},
        "models": {
            name: {"rule": list(one.rule), "sha256": one.digests[MODEL], **measured[name]}
            for name, one in manifests.items()
        },
        "attacks": list(rows),
    }
    edited = [_edited(one, number, texts) for one in done for number, found in enumerate(one.attempts) if found.applies]
    reached = [row for row in edited if row["reached"] == "yes"]
    sample = random.Random(options.seed).sample(reached, min(options.checked, len(reached)))
    with replacing_folder(options.to) as folder:
        write_json(folder / RESULT, about)
        _write_csv(folder / EDITS, COLUMNS, edited)
        _write_csv(folder / CHECK, (*COLUMNS, KEPT), [row | {KEPT: ""} for row in sample])


def _edited(done: Done, number: int, texts: Sequence[LabelledText]) -> dict[str, Any]:
    found = done.attempts[number]
    return {
        "model": done.model,
        "goal": done.goal,
        "kind": done.kind,
        "row": texts[number].row,
        "label": found.label,
        "reached": "yes" if found.reached else "no",
        "queries": found.queries,
        "before": found.before.label,
        "after": found.after.label,
        "layers": f"{found.before.depth} to {found.after.depth}",
        "text": texts[number].text,
        "edited": found.text,
    }


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
