"""The token reducers by kind: the configuration options of each, and the class that implements it.

A token reducer decides which tokens a layer passes on. It declares its *place* in the layer and what it *needs*, and
returns the tokens to keep, or merged ones. The encoder removes the others by indexing, not by masking. A reducer that
learns weakens tokens during training, in a stage with `removal: soft`. A configuration is read without PyTorch, so the
class of a reducer is imported only when a model is built.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from eat.errors import EatError, listed
from eat.validation import Distinct, Layer, NonNegative, Positive, Strict

if TYPE_CHECKING:
    from eat.model.reducers.base import Dimensions, Reducer

Protected = Annotated[Distinct[Literal["cls", "sep"]], Field(description="Tokens that are never removed.")]


def _with_cls(protect: list[str]) -> list[str]:
    """Refuse a reducer that might remove all tokens of a text."""
    if "cls" not in protect:
        raise ValueError(f"{protect} lacks cls, and this reducer may remove all other tokens; give [cls] or [cls, sep]")
    return protect


ProtectedWithCls = Annotated[Protected, AfterValidator(_with_cls)]


ReducerLayers = Annotated[
    Distinct[Layer], Field(min_length=1, description="The layers in which, or after which, it removes tokens.")
]


class ReducerOptions(Strict, ABC):
    """The base of the options of all reducers.

    learns: whether it has parameters, which are trained in a stage with `removal: soft`. scores: whether it scores
    tokens by importance, which can be compared with saliency.
    """

    learns: ClassVar[bool] = False
    scores: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """The class of a kind; its constructor takes the options except `kind`, and `dimensions`."""


class FixedRatio(ReducerOptions):
    """Removes a fixed share of the tokens after some layers: those of the lowest importance."""

    kind: Literal["none", "norm", "received", "random"] = Field(
        "none",
        description="Importance of a token: the L2 norm of its hidden state (EAT), the attention it receives, or a "
        "random number (a control).",
    )
    after: Distinct[Layer] = Field(default=[], description="The layers after which tokens are removed.")
    ratio: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.3, description="p: the share of unprotected tokens removed each time; ceil((1 - p)(t - 1)) remain."
    )
    protect: Protected = ["cls"]

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if (self.kind == "none") != (not self.after):
            raise ValueError(f"reducer {self.kind!r} with `after: {self.after}`; give layers to every kind except none")
        return self

    @classmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """As `ReducerOptions`."""
        from eat.model.reducers.base import Reducer
        from eat.model.reducers.top_k import NormReducer, RandomReducer, ReceivedReducer

        kinds = {"none": Reducer, "norm": NormReducer, "received": ReceivedReducer, "random": RandomReducer}
        return kinds[kind]


class LearnedThreshold(ReducerOptions):
    """LTP: in each layer a token is removed if the attention it receives is below a learned threshold."""

    learns: ClassVar[bool] = True

    kind: Literal["threshold"]
    after: ReducerLayers
    final: NonNegative = Field(0.01, description="The initial threshold of layer l, counted from 0, is final l / L.")
    temperature: Positive = Field(1e-3, description="T of the soft mask, sigmoid((score - threshold) / T).")
    penalty: NonNegative = Field(0.05, description="lambda: weight of the mean of the soft mask, summed over layers.")
    score: Literal["padded128", "mean"] = Field(
        "padded128",
        description="padded128: attention received, divided by 128 as in the public code, so that a threshold means "
        "the same at every length; mean: the mean over the queries, as in the paper.",
    )
    keep_at_least: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.0,
        description="The least share of the tokens that enter a layer which stays, those of the highest scores, even "
        "if they are below the threshold: no text loses more, whatever it says. Not in the paper.",
    )
    protect: ProtectedWithCls = ["cls"]

    @classmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """As `ReducerOptions`."""
        from eat.model.reducers.threshold import ThresholdReducer

        return ThresholdReducer


class LearnedRetention(ReducerOptions):
    """PoWER-BERT: each layer keeps a learned number of tokens, those that others attend to most."""

    learns: ClassVar[bool] = True

    kind: Literal["retention"]
    after: ReducerLayers
    longest: int = Field(
        128, ge=2, description="N: the number of positions with a learned weight; later positions share the last one."
    )
    penalty: NonNegative = Field(1e-3, description="Weight of l x the sum of layer l's weights.")
    protect: ProtectedWithCls = ["cls"]

    @classmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """As `ReducerOptions`."""
        from eat.model.reducers.retention import RetentionReducer

        return RetentionReducer


class ContributionPredictor(ReducerOptions):
    """AdapLeR: before each layer a small network predicts a token's contribution; below eta / t it is removed."""

    learns: ClassVar[bool] = True

    kind: Literal["predictor"]
    after: ReducerLayers
    size: int = Field(32, ge=1, description="Width of the predictors.")
    eta: Annotated[float, Field(ge=0.01, le=1.0)] = Field(0.25, description="The initial eta of every layer.")
    saliency_weight: NonNegative = Field(0.005, description="gamma: weight of the divergence from the saliency.")
    penalty: NonNegative = Field(0.0005, description="phi: weight of the number of tokens, summed over layers.")
    sharpness: Positive = Field(10.0, description="Sharpness of the soft removal in the first epoch.")
    growth: Positive = Field(10.0, description="The factor by which it grows each epoch.")
    softness: Positive = Field(0.1, description="b of the soft removal.")
    protect: ProtectedWithCls = ["cls"]

    @classmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """As `ReducerOptions`."""
        from eat.model.reducers.predictor import PredictorReducer

        return PredictorReducer


class TokenPolicy(ReducerOptions):
    """TR-BERT: after some layers a small network decides for each token whether it is kept."""

    learns: ClassVar[bool] = True

    kind: Literal["policy"]
    after: ReducerLayers
    size: int = Field(32, ge=1, description="Width of the networks.")
    protect: ProtectedWithCls = ["cls"]

    @classmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """As `ReducerOptions`."""
        from eat.model.reducers.policy import PolicyReducer

        return PolicyReducer


class TokenMerging(ReducerOptions):
    """ToMe: in some layers the most similar tokens are merged, weighted by the number of tokens they represent."""

    scores: ClassVar[bool] = False

    kind: Literal["merging"]
    after: ReducerLayers
    ratio: Annotated[float, Field(gt=0.0, le=0.5, allow_inf_nan=False)] = Field(
        0.3, description="p: the share of unprotected tokens merged into others each time; at most one half."
    )
    protect: Protected = ["cls", "sep"]

    @classmethod
    def implementation(cls, kind: str) -> type[Reducer]:
        """As `ReducerOptions`."""
        from eat.model.reducers.merging import MergingReducer

        return MergingReducer


AnyReducer = Annotated[
    FixedRatio | LearnedThreshold | LearnedRetention | ContributionPredictor | TokenPolicy | TokenMerging,
    Field(discriminator="kind"),
]

REDUCERS: Mapping[str, type[ReducerOptions]] = {
    kind: options
    for options in get_args(get_args(AnyReducer)[0])
    for kind in get_args(options.model_fields["kind"].annotation)
}
"""Kind -> options."""


def build_reducer(options: Mapping[str, Any], dimensions: Dimensions | None = None) -> Reducer:
    """Build a reducer from its entry in the configuration (`kind` and its options), for a model of these dimensions.

    dimensions: may be omitted for a reducer without parameters. Raises `EatError` if there is no such kind.
    """
    from eat.model.reducers.base import UNKNOWN

    kind = str(options.get("kind"))
    if kind not in REDUCERS:
        raise EatError(f"reducer: found the kind {options.get('kind')!r}; allowed: {listed(REDUCERS)}")
    # an entry without a reducer may contain options of another kind
    given = {key: value for key, value in options.items() if key != "kind" and kind != "none"}
    return REDUCERS[kind].implementation(kind)(**given, dimensions=dimensions or UNKNOWN)
