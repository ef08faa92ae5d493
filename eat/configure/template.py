"""The text of a configuration with comments: a task from a file, a dense model, and its adaptive versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eat.configure.defaults import DELTA, Defaults
from eat.configure.options import ConfigureOptions
from eat.study.tasks import FileFormat
from eat.text_files.form import ORDINARY

DENSE, ADAPTIVE = "dense-6", ("adapt-6-int8", "adapt-3-int8")
"""The reference, and the adaptive rows that can be recommended."""


def configuration(options: ConfigureOptions, path: str, size: str, found: Defaults) -> str:
    """The text of the configuration. path: of the file, as the study reads it. size: of the file, for a comment."""
    lines = [
        *_head(options, size),
        *_task(options, path, found),
        *_SYSTEMS_HEAD,
        *_dense(found),
        *_adaptive("adapt-6", "dense-6", "bert", [1, 2, 3, 4, 5], found),
        *_adaptive("adapt-3", "student-3", "distilbert", [1, 2], found),
        *_rest(found),
    ]
    return "\n".join(lines) + "\n"


def _head(options: ConfigureOptions, size: str) -> list[str]:
    name = Path(options.file).name
    return [
        "# yaml-language-server: $schema=schema.json",
        f"# A study on {name if name.isprintable() else 'a file'} ({size}).",
        "# Each value may be changed; docs/own_text.md and the reference of the configuration describe them.",
        f"#   check:  python -m workflow_scripts.check_study config/{options.name}.yaml",
        f"#   run:    snakemake --cores all --configfile config/{options.name}.yaml",
        "",
        f"# the results are in results/{options.name}/",
        f"study: {_yaml(options.name)}",
        "# the dense model with which the others are compared",
        f"reference: {DENSE}",
        "# each seed trains every model once; intervals are honest from three seeds on",
        f"seeds: {_yaml(list(range(1, options.seeds + 1)))}",
        "",
    ]


def _task(options: ConfigureOptions, path: str, found: Defaults) -> list[str]:
    given = {name: getattr(options.form, name) for name in FileFormat.model_fields}
    form = [f"      {name}: {_yaml(value)}" for name, value in given.items() if value != getattr(ORDINARY, name)]
    lines = [
        "tasks:",
        f"  {_yaml(options.name)}:",
        "    source:",
        "      kind: file",
        f"      path: {_yaml(path)}",
        "      # a column is a name, a number from 1, or a dotted path into nested JSON; two text columns are a pair",
        f"      text: {_yaml(list(options.text))}",
        f"      label: {_yaml(options.label)}",
        *form,
        *([] if form else ["      # encoding, delimiter, quote, header: what the file looks like, if not ordinary"]),
        "      # labels: [a, b] would fix their order, and refuse others",
        f"    # tokens of the longest text; {100 * found.longer:.1f} % of the texts are longer and are cut off",
        f"    max_length: {found.max_length}",
        "    # thresholds are chosen on the calibration texts, accuracy is measured on dev, and the rest trains",
        f"    splits: {{calibration: {found.calibration:g}, dev: {found.dev:g}}}",
    ]
    if found.train_examples is not None:
        lines += [
            "    # so that training takes minutes; without this line, all texts train",
            f"    train_examples: {found.train_examples}",
        ]
    for name in ("calibration_examples", "dev_examples"):
        if (count := getattr(found, name)) is not None:
            lines.append(f"    {name}: {count}")
    if found.rest:
        lines += [
            "    # the heads of adapt-6 and adapt-3 need no labels: they also learn from training texts that are left",
            "    unlabelled: [{kind: rest}]",
            f"    unlabelled_examples: {found.unlabelled_examples}",
        ]
    return [*lines, ""]


_SYSTEMS_HEAD = [
    "# the pretrained weights: a package, or {kind: folder, path: ...} for your own BERT-like model",
    "backbones:",
    "  minilm-6: {kind: packaged, name: all-minilm-l6-v2}",
    "",
    "systems:",
]


def _dense(found: Defaults) -> list[str]:
    return [
        "  # all six layers for every text",
        f"  {DENSE}:",
        "    backbone: minilm-6",
        "    last_head: bert",
        "    recipe:",
        f"      - epochs: {found.epochs}",
        "",
        "  # every second layer of it, which learns from it",
        "  student-3:",
        "    backbone: minilm-6",
        "    layers: {every: 2}",
        "    last_head: distilbert",
        "    recipe:",
        f"      - from: {DENSE}",
        f"        epochs: {found.epochs}",
        f"        distill: {{teacher: {DENSE}, mu: 0.5, temperature: 2.0}}",
        "",
    ]


def _adaptive(name: str, of: str, last_head: str, exits: Sequence[int], found: Defaults) -> list[str]:
    promise = f"{{by: disagreement, epsilon: {found.epsilon:g}, delta: {DELTA:g}}}"
    return [
        f"  # exits on the frozen {of}: a text leaves after the first layer whose head is certain",
        f"  {name}:",
        "    backbone: minilm-6",
        f"    last_head: {last_head}",
        "    exits:",
        f"      after: {_yaml(list(exits))}",
        "      read: mean",
        "      head: mlp",
        "      rule: [confidence]",
        "      # thresholds that are shown beside the chosen one",
        "      tau: [0.90, 0.97]",
        f"      # the promise: at most {100 * found.epsilon:g} % of the answers differ from those at full depth",
        f"      choose: {promise}",
        "    recipe:",
        f"      - from: {of}",
        "        epochs: 20",
        "        learning_rate: 1.0e-3",
        f"        train_heads: {_yaml(list(exits))}",
        *(["        texts: all"] if found.rest else []),
        "        distill: {teacher: self, mu: 1.0, temperature: 2.0, onto: all, labels: 0.0}",
        "",
        "  # the same as one ONNX file in int8",
        f"  {name}-int8:",
        f"    weights_of: {name}",
        "    engine: onnx",
        "    precision: int8",
        "",
    ]


def _rest(found: Defaults) -> list[str]:
    return [
        "training:",
        "  batch_size: 32",
        "  learning_rate: 1.0e-4",
        "  # lets training use the fused attention kernel: several times faster on long text",
        "  attention_dropout: 0.0",
        "  # on a processor that is slower in it, float32 is taken",
        "  precision: bfloat16",
        "  # threads of a training job",
        f"  threads: {found.training_threads}",
        "",
        "timing:",
        "  # dev texts that are timed; more texts, repeats and passes make intervals narrower",
        "  texts: 200",
        "  block_texts: 16",
        "  repeats: 1",
        "  passes: 3",
        "  # as many as the service will have",
        f"  threads: {found.timing_threads}",
        "  # a stock model of 12 layers is not timed",
        "  deep_layers: null",
        "  # the dense rivals in ONNX Runtime",
        "  stock:",
        "    - {engine: onnx}",
        "    - {engine: onnx, precision: int8}",
    ]


def _yaml(value: Any) -> str:
    """A value as JSON, which is YAML, too; names that cannot be misread stay plain."""
    return json.dumps(value, ensure_ascii=False)
