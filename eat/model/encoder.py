"""The packed encoder: the one forward pass that training, tracing and timing share.

A BERT-like encoder (post-layer-norm) over packed rows: hidden states are (n, d) with the rows' lengths beside them.
Removing a token is indexing, exiting early drops a row; removed tokens and rows are not computed again. The steps are

    embeddings -> for each layer: attention -> feed-forward -> exit head -> removal of tokens

The exit is checked before the removal that follows the same layer, so that a head reads everything the layer computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat.errors import EatError
from eat.model.attention import AttentionPattern
from eat.model.batch import PackedBatch
from eat.model.exit_policy import ExitPolicy
from eat.model.gradients import Gradients, at_exit
from eat.model.heads import ExitHead
from eat.model.layout import Layout
from eat.model.reducers.base import Place, Reducer, TokenView
from eat.model.shape import Shape

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
}


@dataclass
class State:
    """The state that passes through the layers: the live tokens of the rows that have not exited.

    batch: the input. hidden: (n, d). rows: the caller's number of each live row. wants_margin: whether the
    reducer's margins are recorded. origin: the index of each live token in the packed batch (n,), from which its id,
    segment and position follow; `None` while all are live. key_bias: added to the attention logits of each token as
    a key (n,), if a reducer set it. received: the attention each received in the current layer (n,), and
    keys: its key (n, d), if the reducer needs them. read_layout: the layout of `hidden` if it has [CLS] alone (B, d).
    """

    batch: PackedBatch
    hidden: Tensor
    layout: Layout
    rows: list[int]
    wants_margin: bool
    origin: Tensor | None = None
    key_bias: Tensor | None = None
    received: Tensor | None = None
    keys: Tensor | None = None
    read_layout: Layout | None = None

    def keep(self, tokens: Tensor, layout: Layout) -> None:
        """Keep only these tokens; indices (m,) ascending, and their layout."""
        self.hidden = self.hidden.index_select(0, tokens)
        self.origin = tokens if self.origin is None else self.origin.index_select(0, tokens)
        for name in ("key_bias", "received", "keys"):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, values.index_select(0, tokens))
        self.layout = layout

    def keep_rows(self, kept: list[int]) -> None:
        """Keep only these rows, numbered among the live ones; the others have exited."""
        layout, tokens = self.layout.keep_rows(kept)
        self.keep(tokens, layout)
        self.rows = [self.rows[row] for row in kept]


@dataclass
class Work:
    """The work that one forward pass did in a layer.

    rows: the caller's numbers of the rows that ran it. attended, fed: live tokens of each of them at the attention, and
    at the feed-forward part, which the last layer may compute for [CLS] alone. alive: tokens passed on, for each row
    that did not exit here. margin: the reducer's margins, if it removed tokens here and no row may exit.
    """

    rows: list[int]
    attended: list[int] = field(default_factory=list)
    fed: list[int] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    margin: Tensor | None = None


@dataclass
class EncoderOutput:
    """The output of a forward pass.

    logits: the answer of each row, from the exit it took (B, C). exits: layer -> logits (B, C) of every head, only
    if no row may exit. depth: layers executed for each row. work: one record per layer, in order. loss: the
    reducers' term of the training loss.
    """

    logits: Tensor
    exits: dict[int, Tensor] = field(default_factory=dict)
    depth: list[int] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    loss: Tensor | None = None

    def record_exit(self, rows: list[int], depth: int) -> None:
        """Record that these rows exited after layer `depth`."""
        for row in rows:
            self.depth[row] = depth


class Embeddings(nn.Module):
    """Token, position and segment embeddings, normalised; widened if they are narrower than the layers (ELECTRA)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.embedding or shape.hidden
        self.token = nn.Embedding(shape.vocabulary, width)
        self.position = nn.Embedding(shape.positions, width)
        self.segment = nn.Embedding(shape.token_types, width) if shape.token_types else None
        self.norm = nn.LayerNorm(width, eps=shape.norm_epsilon)
        self.project = nn.Linear(width, shape.hidden) if shape.embedding else None
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Embedded tokens; (n, d)."""
        if batch.layout.longest > self.position.num_embeddings:
            raise EatError(
                f"a text of {batch.layout.longest} tokens, but the model has {self.position.num_embeddings} positions; "
                "lower max_length"
            )
        if batch.layout.rows == 1:
            positions = self.position.weight[: batch.layout.tokens]
        else:
            positions = self.position(batch.layout.positions)
        hidden = self.token(batch.ids) + positions
        if self.segment is not None:
            hidden = hidden + self.segment(batch.types)
        embedded: Tensor = self.norm(hidden)
        if self.training:
            embedded = self.dropout(embedded)
        return embedded if self.project is None else self.project(embedded)


class EncoderLayer(nn.Module):
    """One layer of BERT on packed tokens, in two halves between which tokens may be removed."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_dropout = shape.attention_dropout
        self.activation = ACTIVATIONS[shape.activation]
        self.qkv = nn.Linear(shape.hidden, 3 * shape.attention_width)
        self.attention_output = nn.Linear(shape.attention_width, shape.hidden)
        self.attention_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_epsilon)
        self.up = nn.Linear(shape.hidden, shape.intermediate)
        self.down = nn.Linear(shape.intermediate, shape.hidden)
        self.output_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_epsilon)
        self.dropout = nn.Dropout(shape.dropout)

    def attend(
        self,
        hidden: Tensor,
        layout: Layout,
        pattern: AttentionPattern,
        key_bias: Tensor | None = None,
        first_alone: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attention, residual and norm: (n, d) to (n, d), and its queries, keys and values (n, 3 attention_width).

        key_bias: (n,), added to the attention logits of each token as a key. first_alone: what follows the attention
        is computed for [CLS] alone, (n, d) to (B, d).
        """
        qkv: Tensor = self.qkv(hidden)
        context = pattern(qkv, layout, self.heads, self.attention_dropout if self.training else 0.0, key_bias)
        if first_alone:
            context, hidden = layout.first(context), layout.first(hidden)
        return self._add_and_norm(self.attention_output(context), hidden, self.attention_norm), qkv

    def feed(self, hidden: Tensor) -> Tensor:
        """Feed-forward, residual and norm: (n, d) to (n, d)."""
        return self._add_and_norm(self.down(self.expand(hidden)), hidden, self.output_norm)

    def expand(self, hidden: Tensor) -> Tensor:
        """The feed-forward part's first product and its activation: (n, d) to (n, intermediate)."""
        return self.activation(self.up(hidden))

    def _add_and_norm(self, update: Tensor, hidden: Tensor, norm: nn.Module) -> Tensor:
        if self.training:
            update = self.dropout(update)
        # in place, since the update is not needed afterwards; mixed precision keeps the sum in the precision of
        # `hidden`
        update = update.add_(hidden) if update.dtype == hidden.dtype else update + hidden
        normed: Tensor = norm(update)
        return normed


class PackedEncoder(nn.Module):
    """A BERT-like encoder with a token reducer, an attention pattern and exit heads.

    heads: layer -> head; the last layer always has one.
    """

    def __init__(self, shape: Shape, pattern: AttentionPattern, reducer: Reducer, heads: dict[int, ExitHead]) -> None:
        super().__init__()
        self.shape = shape
        self.pattern = pattern
        self.reducer = reducer
        self.embeddings = Embeddings(shape)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))
        self.exit_heads = nn.ModuleDict({str(depth): heads[depth] for depth in sorted(heads)})
        self.gradients: Gradients = "all"
        """What passes an exit in the backward pass (`eat.model.gradients`)."""
        self.layer_drop = 0.0
        """The probability that a layer is dropped while training (LayerDrop, arXiv:1909.11556)."""
        self.keeps_last_states = False
        """Whether the last layer computes the states of all tokens, although its head reads [CLS] alone."""

    @property
    def exits(self) -> list[int]:
        """The layers that have a head, ascending."""
        return [int(depth) for depth in self.exit_heads]

    def head(self, depth: int) -> ExitHead:
        """The head after a layer."""
        head = self.exit_heads[str(depth)]
        assert isinstance(head, ExitHead)
        return head

    def ends_with_first(self, depth: int) -> bool:
        """Whether what follows the attention of a layer is computed for [CLS] alone.

        So it is in the last layer if its head reads nothing else: the other tokens serve as keys and values only. This
        saves 9 of the 12 parts of the layer's products, and changes no answer.
        """
        return (
            depth == len(self.layers)
            and not self.keeps_last_states
            and self.head(depth).read == "cls"
            and not self.reducer.acts("after_attention", depth)
        )

    def forward(self, batch: PackedBatch, policy: ExitPolicy | None = None) -> EncoderOutput:
        """Run the batch through the layers.

        Without a policy no row exits early and every head is evaluated (training, tracing). With one, each row exits
        at the first head whose rule holds, and a head is evaluated only if the policy may use it.
        """
        last = len(self.layers)
        may_exit = policy is not None and policy.may_exit
        output = EncoderOutput(logits=torch.empty(0), depth=[last] * batch.layout.rows)
        answers: list[tuple[list[int], Tensor]] = []
        seen: dict[int, Tensor] = {}  # calibrated probabilities of the live rows at the exits passed so far
        state = State(batch, self.embeddings(batch), batch.layout, batch.rows, policy is None)
        heads = {int(depth): head for depth, head in self.exit_heads.items()}
        dropped = self._dropped_layers()
        for depth, layer in enumerate(self.layers, start=1):
            if depth in dropped:
                output.work.append(Work(state.rows))
            else:
                self._run_layer(layer, depth, state, output)
            if depth in heads and (policy is None or may_exit or depth == last):
                read = state.hidden
                if policy is None:
                    exits_left = len(heads) - len(output.exits)
                    read, state.hidden = at_exit(state.hidden, self.gradients, exits_left)
                logits = heads[depth](read, state.read_layout or state.layout)
                if policy is None:
                    output.exits[depth] = in_order([(state.rows, logits)])
                if depth == last:
                    answers.append((state.rows, logits))
                elif policy is not None:
                    seen[depth] = policy.probabilities(depth, logits)
                    fires = policy.fires(seen).tolist()  # the only synchronisation with the device at this exit
                    if all(fires):
                        answers.append((state.rows, logits))
                        output.record_exit(state.rows, depth)
                        break
                    if any(fires):
                        exited = [row for row, fired in enumerate(fires) if fired]
                        kept = [row for row, fired in enumerate(fires) if not fired]
                        answers.append(([state.rows[row] for row in exited], logits[exited]))
                        output.record_exit(answers[-1][0], depth)
                        state.keep_rows(kept)
                        seen = {passed: probabilities[kept] for passed, probabilities in seen.items()}
            if depth < last:
                self._reduce("layer_output", depth, state, output)
            output.work[-1].alive = state.layout.lengths
        output.logits = in_order(answers)
        return output

    def _dropped_layers(self) -> set[int]:
        """The layers that this forward pass leaves out, each with the same probability; none outside training."""
        if not (self.training and self.layer_drop):
            return set()
        # the state of this generator is part of a checkpoint, so that a resumed run drops the same layers
        draws = torch.rand(len(self.layers)).tolist()
        return {depth for depth, draw in enumerate(draws, start=1) if draw < self.layer_drop}

    def _run_layer(self, layer: nn.Module, depth: int, state: State, output: EncoderOutput) -> None:
        """Run one layer, with the removals before and within it; its work is appended to `output.work`."""
        assert isinstance(layer, EncoderLayer)
        work = Work(state.rows)
        output.work.append(work)
        self._reduce("layer_input", depth, state, output)
        work.attended = state.layout.lengths
        first_alone = self.ends_with_first(depth)
        state.hidden, qkv = layer.attend(state.hidden, state.layout, self.pattern, state.key_bias, first_alone)
        if first_alone:
            state.read_layout = Layout([1] * state.layout.rows, state.layout.device)
        if depth in self.reducer.after:
            self._record_attention(qkv, layer.heads, state)
        self._reduce("after_attention", depth, state, output)
        work.fed = state.layout.lengths
        state.hidden = layer.feed(state.hidden)

    def _record_attention(self, qkv: Tensor, heads: int, state: State) -> None:
        """Set the values of this layer's attention that the reducer needs."""
        if self.reducer.needs_received:
            state.received = self.pattern.received(
                qkv, state.layout, heads, state.key_bias, self.reducer.counts_own_query
            )
        if self.reducer.needs_keys:
            state.keys = qkv.chunk(3, dim=1)[1]

    def _reduce(self, place: Place, depth: int, state: State, output: EncoderOutput) -> None:
        """The reducer's removal at this place, if it acts there."""
        if not self.reducer.acts(place, depth):
            return
        view = TokenView(
            depth,
            state.hidden,
            state.layout,
            origin=state.origin,
            batch_ids=state.batch.ids,
            batch_layout=state.batch.layout,
            received=state.received,
            separator=self.shape.separator,
            wants_margin=state.wants_margin,
            keys=state.keys,
            key_bias=state.key_bias,
            batch_saliency=state.batch.saliency,
        )
        reduction = self.reducer.reduce(view)
        if reduction is None:
            return
        output.work[-1].margin = reduction.margin
        if reduction.loss is not None:
            output.loss = reduction.loss if output.loss is None else output.loss + reduction.loss
        if reduction.kept is not None:
            state.keep(reduction.kept, reduction.layout)
        if reduction.hidden is not None:
            state.hidden = reduction.hidden
        if reduction.key_bias is not None:
            state.key_bias = reduction.key_bias


def in_order(answers: list[tuple[list[int], Tensor]]) -> Tensor:
    """The logits of all rows in the caller's order, from groups of (rows, logits)."""
    rows = [row for group, _ in answers for row in group]
    logits = answers[0][1] if len(answers) == 1 else torch.cat([logits for _, logits in answers])
    places = range(len(rows))
    if all(row == place for row, place in zip(rows, places, strict=True)):
        return logits
    packed = torch.tensor(sorted(places, key=rows.__getitem__), device=logits.device)
    return logits.index_select(0, packed)
