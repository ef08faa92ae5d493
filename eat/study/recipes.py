"""The recipe of a system: the stages that train it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from eat.errors import listed
from eat.model.options import Width
from eat.validation import Distinct, Fraction, Grown, Layer, Name, NonNegative, Positive, Strict

SELF = "self"
"""The teacher of a model whose last head is distilled into the others."""


class LayerDistillation(Strict):
    """TinyBERT: what mapped layers of student and teacher compute is compared, by the mean squared error."""

    hidden: NonNegative = Field(
        1.0, description="Weight of the hidden states of each mapped layer, and of the embeddings."
    )
    attention: NonNegative = Field(
        1.0, description="Weight of the attention scores of each mapped layer, before the softmax."
    )
    mapping: dict[Layer, Layer] = Field(
        default={},
        description="Layer of the student: layer of the teacher from which it learns. Default: of a student with M "
        "layers and a teacher with N, layer m learns from layer m N / M.",
    )

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if not (self.hidden or self.attention):
            raise ValueError("hidden and attention are 0, so nothing is compared; give one a weight, or omit `layers`")
        return self


class Distillation(Grown):
    """Equation 2 of the paper: mu T^2 KL(teacher || student)."""

    added: ClassVar[frozenset[str]] = frozenset({"layers"})

    teacher: Name = Field(
        description="A system of this study, whose logits are read from its trace; or `self`: the last head is the "
        "teacher of the others (FastBERT)."
    )
    mu: NonNegative = Field(0.5, description="Weight of the term; 0, with `layers`, learns from the layers alone.")
    temperature: Positive = Field(2.0, description="T, the temperature of both distributions.")
    onto: Literal["last", "all"] = Field(
        "last",
        description="The exits that learn from the teacher: the last, as in the paper, or all, each weighted by its "
        "lambda of equation 1.",
    )
    labels: NonNegative = Field(1.0, description="Weight of equation 1; 0 learns only from the teacher.")
    divergence: Literal["forward", "reverse"] = Field(
        "forward",
        description="forward: KL(teacher || student), as in the paper and in FastBERT's code; reverse: "
        "KL(student || teacher), as printed by FastBERT and Magic Pyramid.",
    )
    layers: LayerDistillation | None = Field(
        None, description="Learn from the teacher's layers, too (TinyBERT): its model then runs beside the student's."
    )

    @model_validator(mode="after")
    def _others_learn(self) -> Self:
        if self.layers is None and not self.mu:
            raise ValueError("mu is 0, so nothing is learned from the teacher; give it a weight above 0, or `layers`")
        if self.layers is not None and self.teacher == SELF:
            raise ValueError("layers with teacher: self; they learn from the layers of another system: name one")
        if self.teacher == SELF and self.onto == "last":
            raise ValueError("teacher: self with onto: last; the last head teaches the others: set onto to all")
        return self


class Annealing(Strict):
    """The epochs during which the pruning ratio rises linearly, step by step, from 0 to the reducer's."""

    start_epoch: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    end_epoch: Positive = 3.0

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.end_epoch < self.start_epoch:
            raise ValueError(f"annealing ends at epoch {self.end_epoch:g}, before it starts at {self.start_epoch:g}")
        return self


class PolicyTraining(Strict):
    """How a stage trains the reducer `policy` (TR-BERT); tokens are removed meanwhile."""

    by: Literal["imitation", "reinforce"] = Field(
        description="imitation: of a heuristic, which keeps the tokens that receive the most attention; reinforce: "
        "actions are drawn, and made more probable the higher their reward, the log-likelihood of the label less the "
        "cost of the tokens kept (REINFORCE)."
    )
    keep: Fraction = Field(0.5, description="by imitation: the share of unprotected tokens that the heuristic keeps.")
    cost: NonNegative = Field(
        1.0, description="by reinforce: what keeping all tokens costs, in nats; the share kept costs that share of it."
    )
    samples: int = Field(
        8, ge=2, description="by reinforce: the draws for each text in a step, whose mean reward is the baseline."
    )
    trains: Literal["policy", "all"] = Field(
        "policy",
        description="policy: the policy alone, in a frozen encoder; all: the encoder and its heads learn, too.",
    )

    @model_validator(mode="after")
    def _options_belong(self) -> Self:
        foreign = ("cost", "samples") if self.by == "imitation" else ("keep",)
        changed = [key for key in foreign if getattr(self, key) != type(self).model_fields[key].default]
        if changed:
            other = "reinforce" if self.by == "imitation" else "imitation"
            raise ValueError(f"{', '.join(changed)} with by: {self.by}; it belongs to by: {other}")
        return self

    @property
    def draws(self) -> int:
        """How often a text is in a step."""
        return self.samples if self.by == "reinforce" else 1


class WidthTraining(Strict):
    """DynaBERT: one set of weights is trained at several widths, each with the first of its heads and neurons."""

    train: Distinct[Width] = Field(
        default=[1.0, 0.75, 0.5, 0.25],
        min_length=1,
        description="The shares of attention heads and intermediate neurons. Each step adds the losses at all of them.",
    )
    order: Literal["importance", "kept"] = Field(
        "importance",
        description="importance: before training, the heads and neurons of each layer are put in the order of their "
        "importance for the loss on training texts (gradient x weight); kept: they stay in the order in which an "
        "earlier stage with `widths` left them.",
    )

    @model_validator(mode="after")
    def _has_the_full_width(self) -> Self:
        if 1.0 not in self.train:
            raise ValueError(f"train: found {listed(self.train)}; the full width is used as it is: add 1")
        return self


class Stage(Grown):
    """One fine-tuning job: a loss (equation 3), the weights it starts from, and what is frozen."""

    added: ClassVar[frozenset[str]] = frozenset({"layer_drop", "policy", "widths"})
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Name = Field("finetune", description="The name of the stage's folder.")
    start_from: Name | None = Field(
        None,
        alias="from",
        description="`backbone`, an earlier stage of this recipe, or another system. Default: the previous stage; for "
        "the first stage, the backbone.",
    )
    epochs: Positive = 3.0
    learning_rate: Positive | None = Field(None, description="Peak rate; overrides the task's and the study's.")
    exit_weights: dict[Layer, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]] = Field(
        default={},
        description="lambda of equation 1 for each exit. Default: 1.0 for the last, 0.3 for the others. Put layers "
        "in quotes: `dvc params diff` only reads quoted keys.",
    )
    distill: Distillation | None = None
    anneal: Annealing | None = Field(None, description="Default: the full pruning ratio from the first step.")
    train_heads: Distinct[Layer] | None = Field(
        None,
        min_length=1,
        description="Train only the heads after these layers, on a frozen encoder. Default: train everything.",
    )
    texts: Literal["labelled", "all"] = Field(
        "labelled",
        description="all: the training texts and the task's unlabelled texts, on which only a teacher can teach.",
    )
    gradients: Literal["all", "next_exit", "equilibrium"] = Field(
        "all",
        description="all: a layer learns from every exit after it; next_exit: only from the next one (SWEET); "
        "equilibrium: from each of the m exits after it with 1 / m of its gradient (Li et al. 2019, ElasticBERT).",
    )
    steps: Literal["joint", "alternating"] = Field(
        "joint",
        description="joint: each step trains all exits; alternating: every other step trains the last alone (BERxiT).",
    )
    layer_drop: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.0,
        description="The probability that a whole layer is dropped in a step (LayerDrop); at inference all layers run.",
    )
    removal: Literal["hard", "soft"] = Field(
        "hard",
        description="soft: a learned reducer is trained while it only weakens tokens; hard: it removes tokens and is "
        "not trained.",
    )
    reducer_learning_rate: Positive | None = Field(
        None, description="Peak rate of the reducer's own parameters. Default: that of the stage."
    )

    policy: PolicyTraining | None = Field(
        None, description="With removal: soft and the reducer `policy`: how the policy is trained."
    )
    widths: WidthTraining | None = Field(
        None, description="Train several widths at once (DynaBERT), which rows with `weights_of` and `width` run."
    )

    @model_validator(mode="after")
    def _anneals_to_the_end(self) -> Self:
        if self.anneal is not None and self.anneal.end_epoch > self.epochs:
            raise ValueError(
                f"anneal.end_epoch is {self.anneal.end_epoch:g}, but the stage has {self.epochs:g} epochs: the full "
                "pruning ratio would never be reached; use a smaller end_epoch"
            )
        return self

    @model_validator(mode="after")
    def _has_a_teacher_of_unlabelled_texts(self) -> Self:
        if self.texts == "all" and self.distill is None:
            raise ValueError("texts: all without `distill`; texts without labels need a teacher")
        if self.texts == "all" and self.removal == "soft":
            raise ValueError("texts: all with removal: soft; the reducer's targets may need labels")
        return self

    @model_validator(mode="after")
    def _trains_an_encoder(self) -> Self:
        freezing = "policy.trains: policy" if self.trains_policy_alone else "train_heads"
        if self.train_heads is None and not self.trains_policy_alone:
            return self
        for key in ("gradients", "steps", "layer_drop"):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(f"{key}: {value} with {freezing}; it is about the layers, which are frozen")
        return self

    @model_validator(mode="after")
    def _trains_a_policy(self) -> Self:
        if self.policy is not None and self.train_heads is not None:
            raise ValueError("policy with train_heads; a stage trains the policy or heads: omit one of them")
        if self.trains_policy_alone and self.distill is not None:
            raise ValueError("distill with policy.trains: policy; the policy learns from no teacher: set it to all")
        return self

    @model_validator(mode="after")
    def _compares_whole_layers(self) -> Self:
        for key in ("train_heads", "steps", "layer_drop", "removal") if self.layers_of is not None else ():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(
                    f"distill.layers with {key}: {value}; every step compares the layers; omit one of them"
                )
        return self

    @model_validator(mode="after")
    def _trains_whole_widths(self) -> Self:
        for key in ("train_heads", "steps", "layer_drop", "removal") if self.widths is not None else ():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(f"widths with {key}: {value}; every step trains all layers at all widths; omit one")
        layers = None if self.distill is None else self.distill.layers
        if self.widths is not None and layers is not None and layers.attention:
            raise ValueError(
                f"widths with distill.layers.attention: {layers.attention:g}; a narrow layer has fewer heads than the "
                "teacher's: set attention to 0"
            )
        return self

    @property
    def trains_policy_alone(self) -> bool:
        """Whether only the policy of a reducer is trained."""
        return self.policy is not None and self.policy.trains == "policy"

    @property
    def teacher(self) -> str | None:
        """The other system from which it learns, if any."""
        return self.distill.teacher if self.distill is not None and self.distill.teacher != SELF else None

    @property
    def logits_of(self) -> str | None:
        """The other system from whose logits it learns, if any."""
        return self.teacher if self.distill is not None and self.distill.mu else None

    @property
    def layers_of(self) -> str | None:
        """The other system from whose layers it learns, if any."""
        return self.teacher if self.distill is not None and self.distill.layers is not None else None
