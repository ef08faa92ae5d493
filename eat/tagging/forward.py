"""The forward pass of a tagger, in which sentences exit or words halt; trace and clock share it.

It runs the layers and the attention of the packed encoder, as training does (`Tagger.forward`). Three steps follow a
layer with a head (Li et al. 2021, arXiv:2105.13878):

* The head classifies each live word w from its first piece; its confidence is c_w = max_y P(y | w).
* A word is sure if c_v >= tau for every word v of its sentence with |v - w| <= k. A word that has halted counts as
  sure.
* Rule `sentence` (SENTEE): a sentence with c_w >= tau for all words exits, and its row is dropped.
  Rule `token` (TOKEE): a sure word halts with all its pieces. Above, their hidden states h stay what they are:
  keys and values are computed from h, but no queries, and no feed-forward part. [CLS] and [SEP], which have no tag,
  are computed as long as a word of their sentence is live. A sentence whose words have all halted is dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from eat.model.encoder import EncoderLayer
from eat.model.layout import Layout
from eat.study.tagging import Rule
from eat.tagging.model import Tagger
from eat.tagging.sentences import SentenceBatch


@dataclass(frozen=True)
class Halting:
    """An operating point: the rule, the layers after which it is checked, the threshold and the window k."""

    rule: Rule = "none"
    after: tuple[int, ...] = ()
    tau: float = math.nan
    window: int = 0


@dataclass
class LayerWork:
    """The work of a layer: tokens computed (queries and feed-forward), tokens that are keys, pairs of the two."""

    computed: int
    keys: int
    pairs: int


@dataclass
class Tagged:
    """The answers of a forward pass.

    answers: the tag of each word, int64 (w,), and depth: the layer whose head gave it, int64 (w,), both in packed
    order. work: of each executed layer. read: the words that the heads classified, of all layers together. margin: the
    smallest distance of a decision from another one (confidence to tau, best to second-best probability of an answer);
    only if it is recorded, else infinite.
    """

    answers: Tensor
    depth: Tensor
    work: list[LayerWork] = field(default_factory=list)
    read: int = 0
    margin: float = math.inf


@dataclass
class _State:
    """What passes through the layers.

    hidden: (n, d), of the rows that are left. layout: of these rows. words: the live words (v,), numbered as in the
    batch. first: the place of the first piece of each in `hidden` (v,). owner: the word of each token (n,), -1 for
    [CLS] and [SEP]. live: the places of the tokens that are computed (m,); `None` while all are.
    """

    hidden: Tensor
    layout: Layout
    words: Tensor
    first: Tensor
    owner: Tensor
    live: Tensor | None = None


def tag(tagger: Tagger, batch: SentenceBatch, halting: Halting, records_margin: bool = False) -> Tagged:
    """Tag the words of sentences at an operating point. Evaluation mode; call it in `torch.inference_mode`."""
    layout, last = batch.packed.layout, tagger.shape.layers
    count = len(batch.first)
    row_of_word = layout.row_of_token.index_select(0, batch.first) if layout.rows > 1 else batch.first.new_zeros(count)
    found = Tagged(batch.first.new_zeros(count), batch.first.new_full((count,), last))
    state = _State(
        tagger.encoder.embeddings(batch.packed),
        layout,
        torch.arange(count, device=batch.first.device),
        batch.first,
        _owners(batch.first, layout),
    )
    # a word that has halted is not unsure
    unsure = torch.zeros(count, dtype=torch.bool, device=batch.first.device)
    for depth in range(1, last + 1):
        found.work.append(_work(state))
        if state.live is None:
            state.hidden = tagger.whole_layer(depth, state.hidden, state.layout)
        else:
            state.hidden = halted_layer(tagger.layer(depth), state.hidden, state.layout, state.live)
        if depth < last and depth not in halting.after:
            continue
        probabilities = torch.softmax(tagger.logits(depth, state.hidden.index_select(0, state.first)), dim=-1)
        found.read += len(state.words)
        confidence, answers = probabilities.max(dim=-1)
        if depth == last:
            leave = torch.ones_like(answers, dtype=torch.bool)
        else:
            unsure[state.words] = ~(confidence >= halting.tau)  # NaN is never sure
            leave = ~_held_back(unsure, row_of_word, halting)[state.words]
        if records_margin:
            found.margin = min(found.margin, _margin(probabilities, leave, halting.tau if depth < last else math.nan))
        if not bool(leave.any()):
            continue
        found.answers[state.words[leave]] = answers[leave]
        found.depth[state.words[leave]] = depth
        if bool(leave.all()):
            break
        _halt(state, leave)
    return found


def _held_back(unsure: Tensor, row_of_word: Tensor, halting: Halting) -> Tensor:
    """Whether each word must go on: bool (w,)."""
    if halting.rule == "sentence":
        rows = torch.zeros(int(row_of_word.max()) + 1, dtype=torch.bool, device=unsure.device)
        rows[row_of_word[unsure]] = True
        return rows[row_of_word]
    held = unsure.clone()
    for distance in range(1, min(halting.window, len(unsure) - 1) + 1):
        same = row_of_word[distance:] == row_of_word[:-distance]
        held[distance:] |= unsure[:-distance] & same
        held[:-distance] |= unsure[distance:] & same
    return held


def _halt(state: _State, leave: Tensor) -> None:
    """Halt the words of `leave`, bool (v,), and drop the rows that have no other."""
    gone = state.words[leave]
    state.words, state.first = state.words[~leave], state.first[~leave]
    if state.layout.rows > 1:
        rows = state.layout.row_of_token.index_select(0, state.first)
        kept = torch.unique(rows).tolist()
        if len(kept) < state.layout.rows:
            layout, tokens = state.layout.keep_rows(kept)
            place = torch.zeros(state.layout.tokens, dtype=torch.int64, device=tokens.device)
            place[tokens] = torch.arange(len(tokens), device=tokens.device)
            was_live = torch.zeros(state.layout.tokens, dtype=torch.bool, device=tokens.device)
            was_live[slice(None) if state.live is None else state.live] = True
            state.hidden, state.owner = state.hidden.index_select(0, tokens), state.owner.index_select(0, tokens)
            state.first, state.layout = place[state.first], layout
            state.live = None if bool(was_live[tokens].all()) else torch.nonzero(was_live[tokens])[:, 0]
    halted = torch.isin(state.owner, gone)
    if bool(halted.any()):
        computed = ~halted
        if state.live is not None:
            before = torch.zeros_like(computed)
            before[state.live] = True
            computed &= before
        state.live = torch.nonzero(computed)[:, 0]


def halted_layer(layer: EncoderLayer, hidden: Tensor, layout: Layout, live: Tensor) -> Tensor:
    """A layer that computes the tokens `live` alone, places (m,) ascending; the others keep their states. (n, d) to (n,
    d).

    All tokens are keys and values. Evaluation mode; `hidden` is written to.
    """
    width = layer.qkv.out_features // 3
    weight, bias = layer.qkv.weight, layer.qkv.bias
    own = hidden.index_select(0, live)
    query = F.linear(own, weight[:width], bias[:width]).view(len(live), layer.heads, -1).transpose(0, 1)
    pairs = F.linear(hidden, weight[width:], bias[width:]).view(len(hidden), 2, layer.heads, -1).permute(1, 2, 0, 3)
    contexts = []
    starts = [0, len(live)]
    if layout.rows > 1:
        live_in_row = torch.bincount(layout.row_of_token.index_select(0, live), minlength=layout.rows)
        starts = [0, *live_in_row.cumsum(0).tolist()]
    at = 0
    for row, length in enumerate(layout.lengths):
        begin, end = starts[row], starts[row + 1]
        if end > begin:
            key, value = pairs[:, :, at : at + length]
            # with an axis of batches, without which the fused kernel is not taken
            found = F.scaled_dot_product_attention(query[None, :, begin:end], key[None], value[None])
            contexts.append(found[0])
        at += length
    context = torch.cat(contexts, dim=1) if len(contexts) > 1 else contexts[0]
    attended = layer.attention_norm(layer.attention_output(context.transpose(0, 1).flatten(1)) + own)
    return hidden.index_copy_(0, live, layer.feed(attended))


def _owners(first: Tensor, layout: Layout) -> Tensor:
    """The word of each token, -1 for [CLS] and [SEP]; int64 (n,)."""
    tokens = torch.arange(layout.tokens, device=first.device)
    owner = torch.searchsorted(first, tokens, right=True) - 1
    owner[layout.starts] = -1
    owner[layout.starts + layout.lengths_tensor - 1] = -1
    return owner


def _work(state: _State) -> LayerWork:
    layout = state.layout
    if state.live is None:
        return LayerWork(layout.tokens, layout.tokens, sum(length * length for length in layout.lengths))
    if layout.rows == 1:
        return LayerWork(len(state.live), layout.tokens, len(state.live) * layout.tokens)
    computed = torch.bincount(layout.row_of_token.index_select(0, state.live), minlength=layout.rows).tolist()
    pairs = sum(own * length for own, length in zip(computed, layout.lengths, strict=True))
    return LayerWork(len(state.live), layout.tokens, pairs)


def _margin(probabilities: Tensor, leave: Tensor, tau: float) -> float:
    """The smallest distance of these decisions from another one; tau: NaN if no threshold was checked."""
    best = probabilities.topk(2, dim=-1).values
    gaps = (best[:, 0] - best[:, 1])[leave]
    distances = [gaps] if math.isnan(tau) else [gaps, (best[:, 0] - tau).abs()]
    return min((float(distance.min()) for distance in distances if len(distance)), default=math.inf)
