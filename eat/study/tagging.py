"""The configuration of a study of sequence labelling: every word of a sentence gets a tag.

It is a sibling of `eat.study.study.Study` with a kind of task of its own (`kind: tagging`). The two share backbones,
the options of training and the seeds. A system has a linear head on the first word piece of each word, after the layers
of `exits.after` and after the last layer. `eat.study.kinds` decides which of the two a configuration is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from os.path import normpath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from eat.errors import listed
from eat.model.options import Attention, Heads, Layers
from eat.model.reducers.registry import FixedRatio
from eat.study.backbones import Backbone
from eat.study.keys import kept
from eat.study.messages import joined
from eat.study.recipes import Stage
from eat.study.specs.finetune import TrainingSpec
from eat.study.stock import STOCK_PREFIX
from eat.study.study import A_VIEW, StudyName
from eat.study.training import Optimization, Training
from eat.validation import Distinct, Fraction, Layer, Name, OutsidePath, Positive, Strict, Title, canonical_json

STAGE = "tagger"
"""The name of the only stage of a system, and of its folder."""

Rule = Literal["none", "sentence", "token"]
Point = tuple[float, int]
"""An operating point of a system: its threshold, NaN for a system without exits, and its window."""


class ConllSource(Strict):
    """Sentences of a CoNLL file: a word and its tag per line, separated by a tab; an empty line after each sentence."""

    kind: Literal["conll", "conllu"] = Field(
        description="conll: two columns, the word and its tag. conllu: ten columns of Universal Dependencies, of which "
        "the word (2) and UPOS (4) are read; lines of ranges (3-4) and empty nodes (8.1) are skipped."
    )
    path: OutsidePath = Field(description="The file of training sentences, relative to the folder the command runs in.")
    dev_path: OutsidePath = Field(
        description="The file of dev sentences, such as the official dev or test file; all of them are used."
    )

    @model_validator(mode="after")
    def _differs_from_its_dev_file(self) -> Self:
        if normpath(self.dev_path) == normpath(self.path):
            raise ValueError(
                f"dev_path: found {self.dev_path!r}, which is also path; give the official dev or test file"
            )
        return self


class TaggingTask(Strict):
    """A task in which every word gets a tag."""

    kind: Literal["tagging"]
    source: ConllSource
    title: Title | None = Field(None, description="The name of the task in the report. Default: its key.")
    metric: Literal["span_f1", "token_accuracy"] = Field(
        description="span_f1: F1 of entity spans, for tags O, B-type and I-type; token_accuracy: the share of words "
        "with the right tag."
    )
    calibration: Fraction = Field(
        0.15,
        description="The share of the training sentences, by a hash of their words, on which thresholds are chosen.",
    )
    max_length: int = Field(
        512,
        ge=8,
        description="The most word pieces of a sentence, with [CLS] and [SEP]; a longer sentence is refused, since "
        "words that are cut off would get no tag.",
    )
    train_examples: int | None = Field(None, ge=8, description="The most training sentences. Default: all.")
    calibration_examples: int | None = Field(None, ge=8, description="The most calibration sentences. Default: all.")
    dev_examples: int | None = Field(None, ge=8, description="The most dev sentences. Default: all.")
    epochs_scale: Positive = Field(1.0, description="A factor on the epochs of the systems for this task.")


class TaggingExits(Strict):
    """The layers after which words are tagged early, and the rule."""

    after: Distinct[Layer] = Field(default=[], description="Layers with a head; the last layer always has one.")
    rule: Rule = Field(
        "none",
        description="sentence: a sentence exits once all its words are sure. token: a word that is sure halts; its "
        "hidden states are copied to the layers above, where they serve as keys and values only.",
    )
    tau: Distinct[Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]] = Field(
        default=[], description="Thresholds on the largest probability of a word's tag."
    )
    window: Distinct[Annotated[int, Field(ge=0)]] = Field(
        default=[0],
        min_length=1,
        description="Rule token: k, a word halts if it and its neighbours within k words reach the threshold; 0: the "
        "word alone.",
    )

    @model_validator(mode="after")
    def _rule_and_thresholds(self) -> Self:
        if (self.rule == "none") == bool(self.tau):
            raise ValueError(
                f"rule {self.rule} with tau [{listed(self.tau)}]; sentence and token need tau, none has none"
            )
        if self.rule != "none" and not self.after:
            raise ValueError(f"rule {self.rule} without `after`; name the layers after which a word may be tagged")
        if self.rule != "token" and self.window != [0]:
            raise ValueError(
                f"window [{listed(self.window)}] with the rule {self.rule}; only words that halt one by one have "
                "neighbours to wait for: omit it"
            )
        return self

    def points(self) -> list[Point]:
        """The operating points, the lowest threshold first."""
        if self.rule == "none":
            return [(nan, 0)]
        return [(tau, window) for window in sorted(self.window) for tau in sorted(self.tau)]


def _backbone_or_weights_of(schema: dict[str, Any]) -> None:
    """A row names a backbone, or inherits it with another system's weights."""
    schema["anyOf"] = [{"required": [key]} for key in ("backbone", "weights_of")]
    del schema["required"]


class TaggingSystem(Strict):
    """A row: a backbone with heads that tag words, and the rule of its exits."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_backbone_or_weights_of)

    refused: ClassVar[Mapping[str, str]] = {
        "reducer": "a removed word would get no tag: use exits.rule: token, by which words halt",
        "attention": "tagging has dense attention",
        "engine": "tagging runs in PyTorch alone, not in ONNX Runtime",
        "precision": "tagging runs in float32 alone",
        "cascade": "tagging has no cascades: name one backbone",
        "width": "tagging has no narrow widths: use the full width",
        "recipe": "a tagger has one stage: give `epochs`",
    }

    weights_of: Name | None = Field(
        None, description="Run the weights of this system without training; its exits are taken where none are given."
    )
    backbone: Name
    exits: TaggingExits = TaggingExits()
    epochs: Positive = 3.0
    learning_rate: Positive | None = Field(None, description="Peak rate; overrides the study's.")

    @model_validator(mode="before")
    @classmethod
    def _refuses_parts_of_classification(cls, row: Any) -> Any:
        for key, reason in cls.refused.items() if isinstance(row, Mapping) else ():
            if key in row:
                raise ValueError(f"{key}: given in a study of tagging; {reason}; omit {key}")
        return row

    @property
    def trains(self) -> bool:
        """Whether it trains weights of its own."""
        return self.weights_of is None


class TaggingTiming(Strict):
    """How time is measured, at batch size 1 on the CPU (see docs/tagging.md)."""

    sentences: int = Field(200, ge=8, description="Dev sentences timed, stratified by length.")
    block_sentences: int = Field(16, ge=1, description="Sentences of a block, within which every system runs in turn.")
    repeats: int = Field(3, ge=1, description="Repeats over all blocks, each in another order.")
    threads: int = Field(2, ge=1)


class TaggingStudy(Strict):
    """The configuration of one run of the workflow whose tasks are sequence labelling."""

    study: StudyName
    seeds: Distinct[Annotated[int, Field(ge=0)]] = Field(default=[1], min_length=1)
    reference: Name = Field(description="The system with the last head alone, with which the others are compared.")
    score_budget: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.01,
        description="The largest loss of F1 or accuracy of a chosen operating point against the reference, on the "
        "calibration split.",
    )
    backbones: dict[Name, Backbone] = Field(min_length=1)
    tasks: dict[Name, TaggingTask] = Field(min_length=1)
    systems: dict[Name, TaggingSystem] = Field(min_length=1)
    training: Training = Training()
    timing: TaggingTiming = TaggingTiming()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, value: Any) -> Any:
        """Complete the rows that run another system's weights from that system's row."""
        systems = value.get("systems") if isinstance(value, Mapping) else None
        if not isinstance(systems, Mapping):
            return value
        return {**value, "systems": {name: _inherited(name, row, systems) for name, row in systems.items()}}

    @model_validator(mode="after")
    def _sections_go_together(self, info: ValidationInfo) -> Self:
        if info.context == A_VIEW:
            return self
        if self.reference not in self.systems:
            raise ValueError(f"reference: {self.reference!r} is no system; known: {listed(self.systems)}")
        reference = self.systems[self.reference]
        if reference.exits.after or not reference.trains:
            raise ValueError(
                f"reference: {self.reference} has exits or runs another's weights; name a system that trains a "
                "last head alone"
            )
        for name, row in self.systems.items():
            if name.startswith(STOCK_PREFIX):
                raise ValueError(f"systems.{name}: names that begin with {STOCK_PREFIX} are reserved; choose another")
            if row.weights_of is not None and not set(row.exits.after) <= set(self.systems[row.weights_of].exits.after):
                raise ValueError(
                    f"systems.{name}.exits.after: found [{listed(row.exits.after)}]; {row.weights_of} has heads after "
                    f"[{listed(self.systems[row.weights_of].exits.after)}]"
                )
            if row.backbone not in self.backbones:
                raise ValueError(
                    f"systems.{name}.backbone: {row.backbone!r} is unknown; known: {listed(self.backbones)}"
                )
        if self.training.gpus > 1:
            raise ValueError(f"training.gpus: {self.training.gpus}; a tagger is trained by one process: omit gpus")
        return self

    def titles(self) -> dict[str, str]:
        """The title of each task in the report."""
        return {name: task.title or name for name, task in self.tasks.items()}

    def stage_names(self, system: str) -> list[str]:
        """The stages of a system; none if it runs another's weights."""
        return [STAGE] if self.systems[system].trains else []

    def trained_of(self, system: str) -> str:
        """The system whose weights a system runs."""
        return self.systems[system].weights_of or system

    def training_spec(self, task: str, system: str) -> TrainingSpec:
        """Everything that determines a tagger's weights besides data, backbone and seed: a stage like any other."""
        row = self.systems[system]
        rate = row.learning_rate or self.training.learning_rate
        training = {name: getattr(self.training, name) for name in Optimization.model_fields}
        return TrainingSpec(
            max_length=self.tasks[task].max_length,
            layers=Layers(),
            reducer=FixedRatio(),
            attention=Attention(),
            exits=Heads(after=row.exits.after),
            last_head="linear",
            stage=Stage(name=STAGE, epochs=row.epochs * self.tasks[task].epochs_scale, learning_rate=rate),
            training=Optimization(**training | {"learning_rate": rate}),
        )

    def view(self, keys: Sequence[str], tasks: Sequence[str] | None = None) -> str:
        """The part of this study on which a job depends, as canonical JSON; as `eat.study.study.Study.view`."""
        whole = self.plain()
        if tasks is not None:
            whole["tasks"] = {name: task for name, task in whole["tasks"].items() if name in tasks}
        return canonical_json(TaggingStudy.model_validate(kept(whole, keys), context=A_VIEW).plain())


def _inherited(name: Any, row: Any, systems: Mapping[Any, Any]) -> Any:
    """Complete a row with `weights_of` from the row it names; other mistakes are reported by the validation.

    Raises `ValueError` if that row trains no weights: otherwise other keys would be reported as missing.
    """
    named = row.get("weights_of") if isinstance(row, Mapping) else None
    if not isinstance(row, Mapping) or not isinstance(named, str):
        return row
    trained = [other for other, one in systems.items() if not (isinstance(one, Mapping) and one.get("weights_of"))]
    if named not in trained:
        raise ValueError(
            f"systems.{joined([name])}.weights_of: {named!r} trains no weights here; "
            f"known: {listed(joined([other]) for other in trained)}"
        )
    base = systems[named]
    if not isinstance(base, Mapping):
        return row
    filled = {**base, **row}
    if isinstance(base.get("exits"), Mapping) and isinstance(row.get("exits"), Mapping):
        filled["exits"] = {**base["exits"], **row["exits"]}
    return filled
