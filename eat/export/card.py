"""The model card of an export, `README.md`: one text for all formats, from the manifest and what a study measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eat import rounding
from eat.files import MEGABYTE
from eat.statistics import proportion_interval

if TYPE_CHECKING:
    from eat.export.evidence import Evidence

CARD = "README.md"

TASK = "text-classification"
"""The hub's name of what the model does, which is that of the pipeline, too."""

RUN_ONNX = """```python
from eat.runtime import AdaptiveClassifier  # pip install eat-study

classify = AdaptiveClassifier.load("this folder")
for answer in classify(["a text", "another"]):
    print(answer.label, answer.probability, answer.depth, answer.exit_reason)
```"""

ABOUT = "An adaptive text classifier. A text of which the model is certain exits early; it may also remove tokens."


def model_card(manifest: Mapping[str, Any], size: int, evidence: Evidence | None = None) -> str:
    """The text of README.md.

    manifest: the content of `manifest.json`, or what it would be. size: of the model or its weights, in bytes.
    evidence: what a study says of the row, if it is one's.
    """
    frontier = None if evidence is None else evidence.frontier
    parts = [
        f"---\n{_metadata(manifest, evidence)}\n---\n\n# {manifest['name']}",
        ABOUT,
        _bullets(_facts(manifest, size)),
        "## How to use it",
        RUN_ONNX if manifest["engine"]["name"] == "onnx" else _run_transformers(manifest),
        *([] if evidence is None else ["## Task", _bullets(_task(manifest, evidence))]),
        "## What was measured",
        _bullets(_measured(manifest)),
        *([] if frontier is None else ["## Operating points", frontier.strip(), _about_frontier(manifest)]),
        "## Intended use",
        _intended_use(manifest),
        "## Limits",
        _bullets(_limits(manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(manifest: Mapping[str, Any], evidence: Evidence | None) -> str:
    """The hub's metadata as YAML: what the model is, and its accuracy in the form in which the hub compares models."""
    from huggingface_hub import EvalResult, ModelCardData

    accuracy, study = manifest["accuracy"], manifest["study"]
    results = None
    if accuracy is not None and study is not None:
        results = [
            EvalResult(
                task_type=TASK,
                dataset_type=study["task"],
                dataset_name=study["task"] if evidence is None else evidence.title,
                dataset_split=accuracy["split"],
                metric_type="accuracy",
                metric_value=accuracy["accuracy"],
                metric_name=f"accuracy {_interval(accuracy)}",
            )
        ]
    data = ModelCardData(
        library_name=manifest["engine"]["name"],
        pipeline_tag=TASK,
        tags=["adaptive-inference", "early-exit"],
        eval_results=results,
        model_name=manifest["name"] if results else None,
    )
    found: str = data.to_yaml()
    return found


def _facts(manifest: Mapping[str, Any], size: int) -> list[str]:
    engine = manifest["engine"]
    either = "pairs of texts or single texts" if manifest["pairs"] else "single texts"
    kind = either if manifest["texts"] is None else _kind(manifest)
    length = manifest["max_length"]
    truncated = f"truncated to {length} tokens" if engine["name"] == "onnx" else f"of up to {length} tokens in training"
    return [
        f"Labels: {_listed(manifest['labels'])}",
        f"Input: {kind}, {truncated}",
        f"{manifest['layers']} layers, with exits after {_listed(manifest['exits'])}",
        f"Operating point: {_point(manifest['operating_point'])}",
        f"Precision: {engine['precision']}; {_weights(engine)} {size / MEGABYTE:.1f} MiB",
        f"Exported: {manifest['exported']}, by eat-study {manifest['versions']['eat-study']}",
    ]


def _weights(engine: Mapping[str, Any]) -> str:
    return "`model.onnx` has" if engine["name"] == "onnx" else "the weights have"


def _kind(manifest: Mapping[str, Any]) -> str:
    return "pairs of texts" if manifest["texts"] == 2 else "single texts"


def _run_transformers(manifest: Mapping[str, Any]) -> str:
    text = '{"text": "a text", "text_pair": "another"}' if manifest["texts"] == 2 else '"a text"'
    other = text.replace("a text", "a third") if manifest["texts"] == 2 else '"another"'
    point = manifest["operating_point"]
    lines = [
        'import eat.model  # registers the architecture: pip install "eat-study[study]"',
        "from transformers import pipeline",
        "",
        f'classify = pipeline("{TASK}", model="owner/name")  # this repository, or its folder',
        f"print(classify({text}, truncation=True))",
        f"print(classify([{text}, {other}], batch_size=2, top_k=None, truncation=True))",
    ]
    if point["rule"]:
        lines += ["", "model = classify.model"]
        if point["tau"] is not None:
            lines.append(
                'model.set_operating_point(**model.config.operating_point | {"tau": 0.95})  # another threshold'
            )
        lines.append("model.set_operating_point([])  # every text runs through all layers")
    return "\n".join(["```python", *lines, "```"])


def _task(manifest: Mapping[str, Any], evidence: Evidence) -> list[str]:
    study, texts = manifest["study"], evidence.texts
    lines = [f"{evidence.title}, of the study {study['name']}"]
    if texts is None:
        return lines
    source = ", ".join(f"{key} {texts['source'][key]}" for key in ("kind", "name", "task") if key in texts["source"])
    sizes = _listed(f"{rounding.count(number)} {split}" for split, number in texts["splits"].items())
    counted = zip(texts["labels"], texts["classes"]["train"], strict=True)
    return [
        *lines,
        f"Source: {source}",
        f"Texts: {sizes}; thresholds and temperatures come from calibration, the figures below from dev",
        f"Labels of the training texts: {_listed(f'{label} {rounding.count(number)}' for label, number in counted)}",
    ]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _numbers(value: float | Sequence[float]) -> str:
    """A threshold, or those of the classes in their order."""
    return " / ".join(f"{one:g}" for one in value) if isinstance(value, Sequence) else f"{value:g}"


def _interval(accuracy: Mapping[str, Any]) -> str:
    """Wilson's 95 % interval of an accuracy, in per cent."""
    ends = proportion_interval(accuracy["accuracy"] * accuracy["n"], accuracy["n"])
    return rounding.interval(*ends, rounding.percent)


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
    lines = [f"Study {study['name']}: task {study['task']}, system {study['system']}, seed {study['seed']}"]
    if accuracy is None:
        lines.append(_not_measured(manifest))
        return lines
    lines.append(
        f"Accuracy on {accuracy['split']}: {rounding.with_percent(accuracy['accuracy'])} {_interval(accuracy)} of "
        f"{accuracy['n']} texts; {accuracy['mean_depth']:.2f} layers per text on average"
    )
    if promised is not None:
        lines.append(
            f"Promised: with probability {1 - promised['delta']:g}, the {promised['risk']} risk is at most "
            f"{promised['epsilon']:g} (from {promised['n']} texts of the calibration split)"
        )
    for speed in manifest["speed"] or []:
        lines.append(
            f"Batch size {speed['batch_size']}, {speed['threads']} threads, {speed['cpu']}, {speed['date']}: "
            f"{speed['latency_ms_p50']:.2f} ms (median), {speed['speedup_vs_dense']:.2f} times as fast as stock "
            f"transformers [{speed['speedup_low']:.2f}, {speed['speedup_high']:.2f}]"
        )
    return lines if manifest["speed"] else [*lines, "Speed: not measured in this form"]


def _not_measured(manifest: Mapping[str, Any]) -> str:
    """Why a study's row has no figures: it ran in another form, or not at this threshold."""
    study, engine = manifest["study"], manifest["engine"]
    precision = engine["precision"]
    if study["precision"] == precision and (study["engine"] == "onnx" or precision == "float32"):
        return "Nothing at this operating point, which is none of the study's"
    row = (
        f"`precision: {precision}`"
        if engine["name"] == "transformers"
        else f"`engine: onnx` and `precision: {precision}`"
    )
    return (
        f"Nothing in this form. The study ran it in {study['precision']} with the engine {study['engine']}; a row with "
        f"{row} measures what is exported here"
    )


def _about_frontier(manifest: Mapping[str, Any]) -> str:
    """What the intervals of the table are, and what was timed."""
    ran, here = manifest["study"]["engine"], manifest["engine"]["name"]
    timed = "" if ran == here else f" Times are of the study's engine `{ran}`, and not of this form of the model."
    return f"Intervals are 95 % intervals; the figures are of all seeds of the study.{timed}"


def _adapted(manifest: Mapping[str, Any]) -> list[str]:
    """What `eat adapt` promised and saw."""
    adapted, promised = manifest["adapted"], manifest["promised"]
    shown, speed = adapted["shown"], adapted["speed"]
    lines = [f"Made of `{adapted['model']}` with texts without labels, by `eat adapt`"]
    if promised is None:
        lines.append("No promise: at the one that was asked for, no example could exit early")
    else:
        lines.append(
            f"Promised, with a confidence of {1 - promised['delta']:g}: of texts like those given, at most "
            f"{100 * promised['epsilon']:g} % are answered differently than by that model in float32 (chosen on "
            f"{promised['n']} texts)"
        )
    lines.append(
        f"Seen on {shown['n']} other texts: {shown['differing']} answered differently; {shown['mean_depth']:.2f} of "
        f"{manifest['layers']} layers per text on average"
    )
    lines.append(
        f"Batch size 1, {speed['threads']} threads, {speed['cpu']}: {speed['latency_ms_p50']:.2f} ms (median), "
        f"{speed['speedup']:.2f} times as fast as the same model in {manifest['engine']['precision']} without exits "
        f"[{speed['speedup_low']:.2f}, {speed['speedup_high']:.2f}]"
    )
    return lines


def _intended_use(manifest: Mapping[str, Any]) -> str:
    kind = "single texts" if manifest["texts"] is None else _kind(manifest)
    return (
        f"It sorts {kind} into {len(manifest['labels'])} classes where the time per text matters and texts are like "
        "those that it was trained and measured on. Easy texts run through few layers, so what it saves depends on the "
        "texts. It is not made for decisions about people without a person who checks them."
    )


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    for_transformers = manifest["engine"]["name"] == "transformers"
    length, positions = manifest["max_length"], manifest["positions"]
    if manifest["adapted"] is not None:
        about = "The promise is about texts like those given, and not about whether the answers are right."
    elif manifest["accuracy"] is not None:
        about = "The accuracy is of one training run on texts of one source; texts of another kind may do far worse."
    else:
        about = "Nothing was measured of what is exported here. Measure it on texts of your own before you use it."
    lines = [about, "It repeats the errors and the bias of the labels it learned from."]
    if manifest["operating_point"]["rule"]:
        watch = "" if for_transformers else "; `eat monitor` compares traffic with texts of the usual kind"
        lines.append(
            "The exit rule trusts the model's confidence. On texts of another kind a model may be confident and "
            f"wrong{watch}."
        )
    lines.append("It was not tested with texts that are written to deceive it.")
    if for_transformers:
        return [
            *lines,
            f"Texts are cut after {length} tokens only with `truncation=True`; one of over {positions} is refused.",
            "The scores of a pipeline are the softmax of the logits at the exit that was taken. Only the exit rule "
            "uses calibrated probabilities.",
            "`transformers` needs the package `eat-study`, which registers the architecture. Hidden states and "
            "attentions are not given.",
        ]
    return [*lines, f"Only the first {length} tokens of a text are read."]
