"""The model card of an export, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eat.files import MEGABYTE

RUN = """```python
from eat.runtime import AdaptiveClassifier  # pip install eat-study

classify = AdaptiveClassifier.load("this folder")
for answer in classify(["a text", "another"]):
    print(answer.label, answer.probability, answer.depth, answer.exit_reason)
```"""


def model_card(manifest: Mapping[str, Any], size: int) -> str:
    """The text of README.md. manifest: the content of `manifest.json`. size: of model.onnx, in bytes."""
    front = ["---", "library_name: onnx", "pipeline_tag: text-classification", "---"]
    engine = manifest["engine"]
    kind = "pairs of texts or single texts" if manifest["pairs"] else "single texts"
    facts = [
        f"* Labels: {', '.join(manifest['labels'])}",
        f"* Input: {kind}, truncated to {manifest['max_length']} tokens",
        f"* {manifest['layers']} layers, with exits after {_listed(manifest['exits'])}",
        f"* Operating point: {_point(manifest['operating_point'])}",
        f"* Precision: {engine['precision']}; `model.onnx` has {size / MEGABYTE:.1f} MiB",
        f"* Exported: {manifest['exported']}, by eat-study {manifest['versions']['eat-study']}",
    ]
    parts = [
        "\n".join([*front, "", f"# {manifest['name']}"]),
        "An adaptive text classifier. A text of which the model is certain exits early; it may also remove tokens.",
        "\n".join(facts),
        "## Run it",
        RUN,
        "## What was measured",
        "\n".join(_measured(manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _listed(values: Any) -> str:
    return ", ".join(str(value) for value in values)


def _numbers(value: float | Sequence[float]) -> str:
    """A threshold, or those of the classes in their order."""
    return " / ".join(f"{one:g}" for one in value) if isinstance(value, Sequence) else f"{value:g}"


def _point(point: Mapping[str, Any]) -> str:
    if not point["rule"]:
        return "every text runs through all layers"
    given = point["tau"]
    if isinstance(given, Mapping):
        tau = ", thresholds " + _listed(f"{_numbers(value)} (layer {depth})" for depth, value in given.items())
    else:
        tau = "" if given is None else f", threshold {given:g}"
    origin = {
        "option": "given at the export",
        "saved": "saved with the model",
        "study": "chosen by the study",
        "adapted": "chosen on texts without labels",
    }
    return f"{' and '.join(point['rule'])}{tau} ({origin[point['origin']]})"


def _measured(manifest: Mapping[str, Any]) -> list[str]:
    """A line for each number that a study measured, or one that says why there is none."""
    if manifest["adapted"] is not None:
        return _adapted(manifest)
    study, accuracy, promised = manifest["study"], manifest["accuracy"], manifest["promised"]
    if study is None:
        return ["No study measured this model at this operating point."]
    lines = [f"* Study {study['name']}: task {study['task']}, system {study['system']}, seed {study['seed']}"]
    if accuracy is None:
        lines.append(
            f"* Nothing in this form. The study ran it in {study['precision']} with the engine {study['engine']}; a "
            f"row with `engine: onnx` and `precision: {manifest['engine']['precision']}` measures what is exported here"
        )
        return lines
    lines.append(
        f"* Accuracy on {accuracy['split']}: {100 * accuracy['accuracy']:.1f} % of {accuracy['n']} texts; "
        f"{accuracy['mean_depth']:.2f} layers per text on average"
    )
    if promised is not None:
        lines.append(
            f"* Promised: with probability {1 - promised['delta']:g}, the {promised['risk']} risk is at most "
            f"{promised['epsilon']:g} (from {promised['n']} texts of the calibration split)"
        )
    for speed in manifest["speed"] or []:
        lines.append(
            f"* Batch size {speed['batch_size']}, {speed['threads']} threads, {speed['cpu']}, {speed['date']}: "
            f"{speed['latency_ms_p50']:.2f} ms (median), {speed['speedup_vs_dense']:.2f} times as fast as stock "
            f"transformers [{speed['speedup_low']:.2f}, {speed['speedup_high']:.2f}]"
        )
    return lines if manifest["speed"] else [*lines, "* Speed: not measured in this form"]


def _adapted(manifest: Mapping[str, Any]) -> list[str]:
    """What `eat adapt` promised and saw."""
    adapted, promised = manifest["adapted"], manifest["promised"]
    shown, speed = adapted["shown"], adapted["speed"]
    lines = [f"* Made of `{adapted['model']}` with texts without labels, by `eat adapt`"]
    if promised is None:
        lines.append("* No promise: at the one that was asked for, no example could exit early")
    else:
        lines.append(
            f"* Promised, with a confidence of {1 - promised['delta']:g}: of texts like those given, at most "
            f"{100 * promised['epsilon']:g} % are answered differently than by that model in float32 (chosen on "
            f"{promised['n']} texts)"
        )
    lines.append(
        f"* Seen on {shown['n']} other texts: {shown['differing']} answered differently; {shown['mean_depth']:.2f} of "
        f"{manifest['layers']} layers per text on average"
    )
    lines.append(
        f"* Batch size 1, {speed['threads']} threads, {speed['cpu']}: {speed['latency_ms_p50']:.2f} ms (median), "
        f"{speed['speedup']:.2f} times as fast as the same model in {manifest['engine']['precision']} without exits "
        f"[{speed['speedup_low']:.2f}, {speed['speedup_high']:.2f}]"
    )
    return lines
