"""An adaptive encoder as an ONNX model for one text; the sibling of `encoder.py` and `cascade.py`.

At an operating point each exit is an `If`: one branch holds the answer, the other the rest of the model with the next
exit inside, so that ONNX Runtime executes only what a text needs. For a trace, all layers run and every head answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx
from torch import nn

from eat.errors import EatError, listed
from eat.model.attention_onnx import fused_attention, received, seen_pairs, written_out_attention
from eat.model.cascade import CascadeEncoder
from eat.model.encoder import EncoderLayer, PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.exit_rules_onnx import fires, needs_thresholds, threshold_table
from eat.model.graph_onnx import OMITTED, Described, Graph, Value
from eat.model.heads_onnx import head_logits
from eat.model.products_onnx import PRODUCTS, Products, array
from eat.model.reducers.base import Place
from eat.model.reducers.base_onnx import TokenView
from eat.model.reducers.registry_onnx import removal

Encoder = PackedEncoder | CascadeEncoder

LAST_LAYER, RULE = 0, 1
"""The values of the output `reason`: the text ran through all layers, or the rule held."""

ABOVE_ALL = 2.0
"""The threshold that replaces 1, at which no text exits early even if a probability rounds to 1."""

INPUTS: dict[str, Described] = {"ids": (np.int64, ["tokens"]), "types": (np.int64, ["tokens"])}
"""The inputs of every model: the token ids and segments of a text."""

ANSWER: dict[str, Described] = {
    "logits": (np.float32, ["classes"]),
    "probabilities": (np.float32, ["classes"]),
    "depth": (np.int64, [1]),
    "reason": (np.int64, [1]),
    "kept": (np.int64, ["kept"]),
    "fed": (np.int64, ["executed"]),
}
"""The outputs at an operating point.

logits of the exit that was taken, and its calibrated probabilities; depth: the executed layers; reason: `LAST_LAYER` or
`RULE`; kept: the input's tokens that were still live; fed: the live tokens at each executed feed-forward part.
"""


@dataclass(frozen=True)
class State:
    """The live tokens of the text, as in `encoder.State`.

    hidden: (1, T, d), or [CLS] alone (1, 1, d) after a last layer whose head reads nothing else. length: int64 (1,).
    places: among the input's tokens, int64 (T,), omitted while all are live. seen: the pairs of the window, bool
    (T, T). received, keys: those of the current layer, if the reducer needs them. fed: the live tokens at each
    feed-forward part so far. margins: (layer that a removal first affects, margin (1,)).
    """

    hidden: Value
    length: Value
    seen: Value
    places: Value = OMITTED
    key_bias: Value = OMITTED
    received: Value = OMITTED
    keys: Value = OMITTED
    fed: tuple[Value, ...] = ()
    margins: tuple[tuple[int, Value], ...] = ()


def products_of(encoder: Encoder, precision: str) -> Products:
    """The products of an encoder, or of the members of a cascade, in a precision.

    Raises `EatError` for a precision without an ONNX form.
    """
    if precision not in PRODUCTS:
        raise EatError(f"the precision {precision} has no ONNX form; precisions with one: {listed(PRODUCTS)}")
    members = members_of(encoder)
    return PRODUCTS[precision].prepared({prefix_of(place, members): each for place, each in enumerate(members)})


def members_of(encoder: Encoder) -> list[PackedEncoder]:
    """The members of a cascade, or the encoder alone."""
    members = encoder.members if isinstance(encoder, CascadeEncoder) else [encoder]
    return [member for member in members if isinstance(member, PackedEncoder)]


def prefix_of(member: int, members: Sequence[PackedEncoder]) -> str:
    """The prefix of a member's weights."""
    return f"members.{member}." if len(members) > 1 else ""


def operating_graph(encoder: Encoder, policy: ExitPolicy, products: Products) -> onnx.ModelProto:
    """The model at an operating point, whose thresholds and temperatures are inputs with defaults.

    Inputs: `ids`, `types`, int64 (T,); `temperatures`, float32 (E,), of the E heads; and if the rule has a threshold,
    `thresholds`, float32 (E, C), by exit and most probable class; the row of the last exit is not used. Outputs:
    `ANSWER`. products: of `products_of`. Raises `EatError` for a part without an ONNX form.
    """
    return _OperatingGraph(encoder, policy, products).model()


def trace_graph(encoder: Encoder, products: Products) -> TraceGraph:
    """The model at full depth, with the logits of every head. Raises `EatError` for a part without an ONNX form."""
    parts = _Parts(Graph(), encoder, products, wants_margin=True)
    logits: list[Value] = []
    fed: list[Value] = []
    margins: tuple[tuple[int, Value], ...] = ()
    for member in range(len(parts.members)):
        state = parts.embedded(member)
        for depth in range(1, parts.members[member].shape.layers + 1):
            state = parts.layer(member, depth, state)
            if depth in parts.exits_of(member):
                logits.append(parts.logits(member, depth, state))
            state = parts.reduced(member, "layer_output", depth, state)
        fed += state.fed
        margins += state.margins
    graph = parts.graph
    outputs = {
        "logits": (graph.op("Concat", *logits, axis=0), np.float32, [len(logits), encoder.shape.classes]),
        "fed": (graph.op("Concat", *fed, axis=0), np.int64, [len(fed)]),
    }
    if margins:
        values = graph.op("Concat", *(margin for _, margin in margins), axis=0)
        outputs["margins"] = (values, np.float32, [len(margins)])
    return TraceGraph(graph.model(INPUTS, outputs), [layer for layer, _ in margins])


@dataclass(frozen=True)
class TraceGraph:
    """A model at full depth.

    Inputs: as at an operating point, without thresholds. Outputs: `logits`, float32 (E, C); `fed`, the tokens that
    entered each feed-forward part, int64 (L,); and, if tokens are removed, `margins`, float32 (R,). margin_layers: the
    layer from 0 that each of the R removals first affects.
    """

    model: onnx.ModelProto
    margin_layers: list[int]


class _OperatingGraph:
    """The construction of a model with exits."""

    def __init__(self, encoder: Encoder, policy: ExitPolicy, products: Products) -> None:
        self._parts = _Parts(Graph(), encoder, products)
        self._graph = self._parts.graph
        self._policy = policy
        self._exits = encoder.exits
        self._classes = encoder.shape.classes
        self._has_thresholds = policy.may_exit and needs_thresholds(policy.rule)
        graph = self._graph
        temperatures = [policy.temperatures.get(depth, 1.0) for depth in self._exits]
        given = graph.weight("temperatures", np.array(temperatures, dtype=np.float32))
        self._temperatures = graph.ops("Split", len(self._exits), given, axis=0)
        if self._has_thresholds:
            given = graph.weight("thresholds", threshold_table(policy, self._exits, self._classes))
            closed = graph.op("GreaterOrEqual", given, graph.number(1.0))
            given = graph.op("Where", closed, graph.number(ABOVE_ALL), given)
            rows = graph.ops("Split", len(self._exits), given, axis=0)
            self._thresholds = [graph.op("Squeeze", row, graph.whole(0)) for row in rows]

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        answer = self._run(0, 1, self._parts.embedded(0), (), ())
        outputs = {
            name: (value, dtype, [self._classes if size == "classes" else size for size in shape])
            for value, (name, (dtype, shape)) in zip(answer, ANSWER.items(), strict=True)
        }
        inputs = {**INPUTS, "temperatures": (np.float32, [len(self._exits)])}
        if self._has_thresholds:
            inputs["thresholds"] = (np.float32, [len(self._exits), self._classes])
        return self._graph.model(inputs, outputs)

    def _run(
        self, member: int, first: int, state: State, passed: tuple[Value, ...], seen: tuple[Value, ...]
    ) -> Sequence[Value]:
        """The answer of the model from layer `first` of a member on.

        passed: `fed` of the members before. seen: the probabilities of the heads before.
        """
        parts, graph = self._parts, self._graph
        encoder = parts.members[member]
        is_last_member = member == len(parts.members) - 1
        for depth in range(first, encoder.shape.layers + 1):
            state = parts.layer(member, depth, state)
            is_end = depth == encoder.shape.layers
            if depth in parts.exits_of(member) and (self._policy.may_exit or (is_end and is_last_member)):
                number = len(seen)
                logits = parts.logits(member, depth, state)
                index = number if self._policy.may_exit else len(self._exits) - 1
                probabilities = self._probabilities(logits, index)
                executed = parts.layers_before(member) + depth
                answer = _Answer(parts, logits, probabilities, executed, state, (*passed, *state.fed))
                if is_end and is_last_member:
                    return answer.values(LAST_LAYER)
                thresholds = self._thresholds[index] if self._has_thresholds else OMITTED
                seen = (*seen, probabilities)
                fired = fires(graph, self._policy.rule, seen, thresholds, self._policy.patience)
                rest = self._rest(member, depth, state, passed, seen)
                return graph.branch(graph.op("Squeeze", fired), partial(answer.values, RULE), rest) if fired else rest()
            state = parts.reduced(member, "layer_output", depth, state)
        # a member of a cascade that may not answer
        return self._run(member + 1, 1, parts.embedded(member + 1), (*passed, *state.fed), seen)

    def _rest(
        self, member: int, depth: int, state: State, passed: tuple[Value, ...], seen: tuple[Value, ...]
    ) -> Callable[[], Sequence[Value]]:
        """The answer if the text does not exit after a layer."""

        def build() -> Sequence[Value]:
            if depth == self._parts.members[member].shape.layers:
                after = (*passed, *state.fed)
                return self._run(member + 1, 1, self._parts.embedded(member + 1), after, seen)
            reduced = self._parts.reduced(member, "layer_output", depth, state)
            return self._run(member, depth + 1, reduced, passed, seen)

        return build

    def _probabilities(self, logits: Value, index: int) -> Value:
        """The calibrated probabilities of a head; (1, C)."""
        return self._graph.op("Softmax", self._graph.op("Div", logits, self._temperatures[index]), axis=1)


@dataclass(frozen=True)
class _Answer:
    """The outputs at an exit."""

    parts: _Parts
    logits: Value
    probabilities: Value
    depth: int
    state: State
    fed: tuple[Value, ...]

    def values(self, reason: int) -> Sequence[Value]:
        """The values of `ANSWER`, in order."""
        graph = self.parts.graph
        return [
            graph.op("Squeeze", self.logits, graph.whole(0)),
            graph.op("Squeeze", self.probabilities, graph.whole(0)),
            graph.whole(self.depth),
            graph.whole(reason),
            self.state.places or self.parts.every_place,
            graph.op("Concat", *self.fed, axis=0),
        ]


@dataclass
class _Parts:
    """The layers, heads and removals of an encoder, or of the members of a cascade, in one graph."""

    graph: Graph
    encoder: Encoder
    products: Products
    wants_margin: bool = False
    members: list[PackedEncoder] = field(init=False)
    length: Value = field(init=False)
    every_place: Value = field(init=False)

    def __post_init__(self) -> None:
        self.members = members_of(self.encoder)
        graph = self.graph
        self.length = graph.op("Shape", "ids")
        ends = graph.constant(0, np.int64), graph.op("Squeeze", self.length), graph.constant(1, np.int64)
        self.every_place = graph.op("Range", *ends)

    def name(self, member: int) -> str:
        """The prefix of a member's weights."""
        return prefix_of(member, self.members)

    def exits_of(self, member: int) -> list[int]:
        """The layers of a member with an exit: in a cascade, the last."""
        encoder = self.members[member]
        return encoder.exits if len(self.members) == 1 else [encoder.shape.layers]

    def layers_before(self, member: int) -> int:
        """The layers of the members before."""
        return sum(encoder.shape.layers for encoder in self.members[:member])

    def embedded(self, member: int) -> State:
        """The text at the input of a member."""
        graph, embeddings = self.graph, self.members[member].embeddings
        name = f"{self.name(member)}embeddings"
        token = self.products.rows(graph, f"{name}.token", embeddings.token, "ids")
        position = graph.op(
            "Gather", graph.weight(f"{name}.position", array(embeddings.position.weight)), self.every_place
        )
        if embeddings.segment is not None:
            segment = graph.op("Gather", graph.weight(f"{name}.segment", array(embeddings.segment.weight)), "types")
            position = graph.op("Add", position, segment)
        position = graph.op("Unsqueeze", position, graph.whole(0))
        hidden = self._add_and_norm(f"{name}.norm", embeddings.norm, token, position)
        if embeddings.project is not None:
            widened = self.products.product(graph, f"{name}.project", embeddings.project, hidden)
            hidden = graph.op("Add", widened, graph.weight(f"{name}.project.bias", array(embeddings.project.bias)))
        return State(hidden, self.length, seen_pairs(graph, self.members[member].pattern, self.length))

    def layer(self, member: int, depth: int, state: State) -> State:
        """One layer, with the removals before and within it."""
        graph, encoder = self.graph, self.members[member]
        layer = encoder.layers[depth - 1]
        assert isinstance(layer, EncoderLayer)
        name = f"{self.name(member)}layers.{depth}"
        state = self.reduced(member, "layer_input", depth, state)
        reducer = encoder.reducer
        scored = depth in reducer.after and (reducer.needs_received or reducer.needs_keys)
        what = (graph, self.products, f"{name}.qkv", layer.qkv, layer.heads, state.hidden, state.seen)
        attended = written_out_attention(*what, state.key_bias) if scored or state.key_bias else fused_attention(*what)
        context, entering = attended.context, state.hidden
        if encoder.ends_with_first(depth):
            context, entering = (graph.op("Gather", every, graph.whole(0), axis=1) for every in (context, entering))
        output = self.products.product(graph, f"{name}.attention_output", layer.attention_output, context)
        hidden = self._add_and_norm(
            f"{name}.attention_norm", layer.attention_norm, output, entering, layer.attention_output
        )
        state = replace(state, hidden=hidden, received=OMITTED, keys=attended.keys)
        if scored and reducer.needs_received:
            scores = received(graph, attended.probabilities, state.length, reducer.counts_own_query)
            state = replace(state, received=scores)
        state = self.reduced(member, "after_attention", depth, state)
        wide = self._activated(f"{name}.up", encoder.shape.activation, layer.up, state.hidden)
        output = self.products.product(graph, f"{name}.down", layer.down, wide)
        hidden = self._add_and_norm(f"{name}.output_norm", layer.output_norm, output, state.hidden, layer.down)
        return replace(state, hidden=hidden, fed=(*state.fed, state.length))

    def reduced(self, member: int, place: Place, depth: int, state: State) -> State:
        """The removal at this place of a layer, if the reducer acts there."""
        encoder, graph = self.members[member], self.graph
        reducer = encoder.reducer
        if not reducer.acts(place, depth) or (place == "layer_output" and depth == encoder.shape.layers):
            return state
        places = state.places or self.every_place
        view = TokenView(
            f"{self.name(member)}reducer",
            depth,
            state.hidden,
            state.length,
            "ids",
            places,
            encoder.shape.separator,
            state.received,
            state.keys,
            state.key_bias,
            self.wants_margin,
        )
        found = removal(graph, reducer, view)
        if found is None:
            return state
        key_bias = found.key_bias or (state.key_bias and graph.op("Gather", state.key_bias, found.kept))
        margins = state.margins
        if found.margin:
            # a removal after a layer first affects the next one
            margins = (*margins, (self.layers_before(member) + depth - 1 + int(place == "layer_output"), found.margin))
        return replace(
            state,
            hidden=found.hidden or graph.op("Gather", state.hidden, found.kept, axis=1),
            length=found.length,
            places=graph.op("Gather", state.places, found.kept) if state.places else found.kept,
            seen=seen_pairs(graph, encoder.pattern, found.length),
            key_bias=key_bias,
            margins=margins,
        )

    def logits(self, member: int, depth: int, state: State) -> Value:
        """The logits of the head after a layer; (1, C)."""
        name = f"{self.name(member)}exit_heads.{depth}"
        return head_logits(self.graph, name, self.members[member].head(depth), state.hidden)

    def _add_and_norm(
        self, name: str, norm: nn.LayerNorm, update: Value, hidden: Value, linear: nn.Linear | None = None
    ) -> Value:
        """The norm of the sum, and of the bias of the linear layer that made the update."""
        graph = self.graph
        weights = [graph.weight(f"{name}.weight", array(norm.weight)), graph.weight(f"{name}.bias", array(norm.bias))]
        if linear is not None:
            weights.append(graph.weight(f"{name}.update_bias", array(linear.bias)))
        return graph.op("SkipLayerNormalization", update, hidden, *weights, epsilon=norm.eps)

    def _activated(self, name: str, activation: str, up: nn.Linear, hidden: Value) -> Value:
        """The first product of the feed-forward part, and its activation; (1, T, intermediate)."""
        graph = self.graph
        product = self.products.product(graph, name, up, hidden)
        bias = graph.weight(f"{name}.bias", array(up.bias))
        if activation == "relu":
            return graph.op("Relu", graph.op("Add", product, bias))
        fused = {"gelu": "BiasGelu", "gelu_new": "FastGelu"}
        if activation not in fused:
            raise EatError(f"the activation {activation} has no ONNX form; activations with one: {listed(fused)}, relu")
        return graph.op(fused[activation], product, bias)
