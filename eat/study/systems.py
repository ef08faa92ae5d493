"""The section `systems` of a study: a row names a backbone, its parts, and the recipe that trains it."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from eat.errors import listed
from eat.model.options import Attention, EngineName, LastHead, Layers, Precision, Width, check_precision
from eat.model.reducers.registry import REDUCERS, AnyReducer, FixedRatio
from eat.study.calibration import CalibrationMode
from eat.study.exits import Exits
from eat.study.recipes import Stage
from eat.validation import Distinct, Grown, Name


def _backbone_or_weights_of(schema: dict[str, Any]) -> None:
    """A row names a backbone, or inherits it with another system's weights."""
    schema["allOf"] = [{"anyOf": [{"required": [key]} for key in ("backbone", "weights_of", "cascade")]}]
    schema["required"] = [key for key in schema["required"] if key != "backbone"]


class System(Grown):
    """A row: a backbone with its parts and the recipe that trains it, or another system's weights with other parts."""

    added: ClassVar[frozenset[str]] = frozenset({"width"})
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_backbone_or_weights_of)

    weights_of: Name | None = Field(
        None,
        description="Run the weights of this system without training. Keys that are not given are taken from it; "
        "reducer, attention, the exits used, their rule, the precision and the width may differ.",
    )
    cascade: Distinct[Name] | None = Field(
        None,
        min_length=2,
        description="Run these dense systems one after another, each on the texts that did not exit before, by the "
        "rule of `exits`; without training. Each is trained here, or is a width of one that is. Layers are numbered "
        "through: after a first system of 3 layers, `after: [3]`.",
    )
    backbone: Name
    layers: Layers = Layers()
    reducer: AnyReducer = FixedRatio()
    attention: Attention = Attention()
    exits: Exits = Exits()
    last_head: LastHead = Field(
        "linear", description="bert: pooler, tanh, linear; distilbert: linear, ReLU, linear; linear: as the exits."
    )
    precision: Precision = Field(
        "float32",
        description="The precision in which it is traced and timed; int8 needs `engine: onnx`. bfloat16 and float16 "
        "are refused on a machine on which they take more than twice as long as float32.",
    )
    engine: EngineName = Field(
        "torch",
        description="The engine in which it is traced and timed: torch, the packed forward pass, or onnx, ONNX Runtime "
        "on the CPU in float32 or int8.",
    )
    width: Width = Field(
        1.0,
        description="With weights_of: the share of the attention heads and intermediate neurons of each layer that is "
        "computed, one of the widths at which these weights were trained (DynaBERT).",
    )
    calibration: CalibrationMode | None = Field(None, description="Overrides the study's `calibration.mode`.")
    recipe: list[Stage] = [Stage()]

    @property
    def is_dense(self) -> bool:
        """Whether it computes every layer, every token and every pair."""
        return self.reducer.kind == "none" and self.attention.kind == "dense" and not self.exits.rule

    @model_validator(mode="after")
    def _precision_of_the_engine(self) -> Self:
        check_precision(self.engine, self.precision)
        return self

    @field_validator("recipe")
    @classmethod
    def _stages_differ(cls, recipe: list[Stage]) -> list[Stage]:
        names = [stage.name for stage in recipe]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages have the same name: {listed(names)}; give each its own `name`")
        return recipe

    @property
    def trains(self) -> bool:
        """Whether it trains weights of its own."""
        return self.weights_of is None and self.cascade is None

    @model_validator(mode="after")
    def _trained_once(self) -> Self:
        if self.weights_of is not None and self.cascade is not None:
            raise ValueError(
                "both weights_of and cascade are given; a system runs one other system's weights, or several in turn"
            )
        if self.trains and not self.recipe:
            raise ValueError("the recipe is empty; give at least one stage, or `weights_of` another system")
        if not self.trains and self.recipe:
            key = "weights_of" if self.cascade is None else "cascade"
            raise ValueError(
                f"both {key} and a recipe are given; a system either runs another's weights or trains its own"
            )
        return self

    @model_validator(mode="after")
    def _narrow_form_of_trained_weights(self) -> Self:
        if self.width == 1.0:
            return self
        if self.weights_of is None:
            raise ValueError(
                f"width: {self.width:g} without weights_of; a width is a part of the weights of another system: name it"
            )
        if self.reducer.kind != "none":
            raise ValueError(
                f"width: {self.width:g} with the reducer {self.reducer.kind}; widths were trained on all tokens: use "
                "one of the two"
            )
        return self

    @model_validator(mode="after")
    def _stages_fit_the_reducer(self) -> Self:
        for index, stage in enumerate(self.recipe):
            kind, learns = self.reducer.kind, self.reducer.learns
            if stage.removal == "soft" and not learns:
                learned = listed(name for name, options in REDUCERS.items() if options.learns)
                raise ValueError(f"recipe.{index}.removal: soft with the reducer {kind}; {learned} learn")
            if (stage.policy is not None) != (kind == "policy" and stage.removal == "soft"):
                raise ValueError(
                    f"recipe.{index}.policy: {'omitted' if stage.policy is None else 'given'} with the reducer {kind} "
                    f"and removal: {stage.removal}; the reducer policy needs it with removal: soft, and nothing else"
                )
            if stage.reducer_learning_rate is not None and stage.removal == "hard":
                raise ValueError(
                    f"recipe.{index}.reducer_learning_rate: a reducer learns only in a stage with removal: soft"
                )
            if stage.layer_drop and kind != "none":
                raise ValueError(
                    f"recipe.{index}.layer_drop: {stage.layer_drop:g} with the reducer {kind}; a dropped layer would "
                    "not remove its tokens; use one of the two"
                )
            if stage.layers_of is not None and (kind != "none" or self.attention.kind != "dense"):
                raise ValueError(
                    f"recipe.{index}.distill.layers: with the reducer {kind} and {self.attention.kind} attention; "
                    "layers are compared of all tokens and pairs: omit reducer and attention"
                )
            if stage.widths is not None and kind != "none":
                raise ValueError(
                    f"recipe.{index}.widths: given with the reducer {kind}; widths are trained on all tokens: use one "
                    "of the two"
                )
            if stage.anneal is not None and learns:
                raise ValueError(f"recipe.{index}.anneal: the reducer {kind} has no ratio; omit it")
        return self
