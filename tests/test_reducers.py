"""Token reducers: algorithm 1 of the paper (EAT, arXiv:2510.12856) exactly, and any reducer's place in a layer."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from eat.model.attention import AttentionPattern
from eat.model.batch import PackedBatch
from eat.model.encoder import EncoderLayer
from eat.model.layout import Layout
from eat.model.reducers.base import Place, Reducer, Reduction, TokenView
from eat.model.reducers.registry import build_reducer
from eat.model.reducers.selection import keep_most_important

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=6)
TENTHS = st.integers(1, 9)
PLACES: list[Place] = ["layer_input", "after_attention", "layer_output"]


def packed(encoded: list[Any]) -> PackedBatch:
    """Texts in this order, and not the shortest first."""
    ids, types = (torch.cat([text[part] for text in encoded]) for part in (0, 1))
    return PackedBatch(ids, types, Layout([len(text.ids) for text in encoded]))


def view_of(encoded: list[Any], hidden: Tensor | None = None, received: Tensor | None = None) -> TokenView:
    batch = packed(encoded)
    tokens = batch.layout.tokens
    hidden = torch.randn(tokens, 8, generator=torch.Generator().manual_seed(1)) if hidden is None else hidden
    layout = batch.layout
    return TokenView(2, hidden, layout, None, batch.ids, layout, received, tiny.SEP)


def reduced(reducer: Reducer, view: TokenView) -> Reduction:
    reduction = reducer.reduce(view)
    assert reduction is not None
    return reduction


# --- algorithm 1 --------------------------------------------------------------------------------------------------


@given(LENGTHS, TENTHS, st.sampled_from(["norm", "random", "received"]))
def test_algorithm_1_keeps_cls_and_the_most_important_in_their_order(lengths: list[int], tenths: int, kind: str):
    reducer = build_reducer({"kind": kind, "after": [2], "ratio": tenths / 10})
    received = torch.rand(sum(lengths), generator=torch.Generator().manual_seed(3))
    view = view_of(tiny.texts(lengths), received=received)
    reduction = reduced(reducer, view)
    scores = {"norm": view.hidden.norm(dim=1), "received": received}.get(kind, reducer.importance(view))
    expected = []
    for start, length in zip(view.layout.starts.tolist(), lengths, strict=True):
        others = range(start + 1, start + length)
        # ceil((1 - p)(t - 1)) in exact arithmetic: 0.7 * 10 is 7.000000000000001 in floats, whose ceil is 8
        count = math.ceil((1 - Fraction(tenths, 10)) * (length - 1))
        expected.append([start, *sorted(sorted(others, key=lambda token: -float(scores[token]))[:count])])
    assert reduction.kept.tolist() == [token for row in expected for token in row]
    assert reduction.layout.lengths == [len(row) for row in expected]


def test_a_final_retention_of_half_follows_from_two_removals_of_30_percent():
    # eat.md: 0.7 * 0.7 = 0.49; by algorithm 1 101 -> 1 + 70 -> 1 + 49
    view = view_of(tiny.texts([101]))
    once = reduced(build_reducer({"kind": "norm", "after": [2], "ratio": 0.3}), view)
    again = view_of(tiny.texts(once.layout.lengths))
    twice = reduced(build_reducer({"kind": "norm", "after": [2], "ratio": 0.3}), again)
    assert (once.layout.lengths, twice.layout.lengths) == ([71], [50])


@given(LENGTHS, TENTHS)
def test_a_protected_separator_stays(lengths: list[int], tenths: int):
    lengths = [length + 1 for length in lengths]  # a row of [CLS] alone has no separator
    options = {"kind": "random", "after": [2], "ratio": tenths / 10, "protect": ["cls", "sep"]}
    view = view_of(tiny.texts(lengths))
    reduction = reduced(build_reducer(options), view)
    counts = [2 + math.ceil((1 - Fraction(tenths, 10)) * (length - 2)) for length in lengths]
    assert reduction.layout.lengths == counts
    kept = view.ids[reduction.kept]
    assert (kept[reduction.layout.starts] == tiny.CLS).all()
    assert (kept[reduction.layout.starts + reduction.layout.lengths_tensor - 1] == tiny.SEP).all()


@pytest.mark.parametrize(("length", "ratio", "kept"), [(1, 0.3, 1), (2, 0.3, 2), (3, 0.3, 3), (3, 0.9, 2), (1, 0.9, 1)])
@pytest.mark.parametrize("kind", ["norm", "random"])
def test_the_shortest_rows_survive(kind: str, length: int, ratio: float, kept: int):
    # 1 + ceil((1 - p)(t - 1)): 1, 1 + ceil(.7), 1 + ceil(1.4), 1 + ceil(.2), 1
    reducer = build_reducer({"kind": kind, "after": [2], "ratio": ratio})
    assert reduced(reducer, view_of(tiny.texts([length, 20]))).layout.lengths[0] == kept


def test_nothing_is_removed_at_a_ratio_of_0_nor_where_annealing_starts():
    view = view_of(tiny.texts([9]))
    assert build_reducer({"kind": "norm", "after": [2], "ratio": 0.0}).reduce(view) is None
    reducer = build_reducer({"kind": "norm", "after": [2], "ratio": 0.5})
    reducer.scale = 0.0
    assert reducer.reduce(view) is None
    reducer.scale = 0.5  # 1 + ceil(0.75 * 8)
    assert reduced(reducer, view).layout.lengths == [7]
    assert build_reducer({"kind": "none"}).reduce(view) is None


def test_ties_go_to_the_earlier_token_and_margins_are_relative_gaps_at_the_cut():
    inf = torch.inf
    scores = torch.tensor([inf, 1.0, 3.0, 2.0, 2.0, 2.0, inf, 5.0, 4.0, 4.5, inf])
    reduction = keep_most_important(scores, Layout([6, 4, 1]), [4, 3, 1])
    # row 0: of the three 2.0 the first two stay, beside 3.0; row 1: 4.0 goes, a ninth below 4.5; row 2: nothing goes
    assert reduction.kept.tolist() == [0, 2, 3, 4, 6, 7, 9, 10]
    assert reduction.margin is not None
    assert reduction.margin.tolist() == pytest.approx([0.0, 1 / 9, inf])
    assert keep_most_important(scores, Layout([6, 4, 1]), [4, 3, 1], wants_margin=False).margin is None


def test_random_removal_depends_on_the_text_alone():
    reducer = build_reducer({"kind": "random", "after": [2], "ratio": 0.5})
    encoded = tiny.texts([12, 20, 5, 20])
    together = reduced(reducer, view_of(encoded))
    parts, starts = together.kept.split(together.layout.lengths), [0, 12, 32, 37]
    for row, text in enumerate(encoded):
        alone = reduced(reducer, view_of([text]))
        assert (parts[row] - starts[row]).tolist() == alone.kept.tolist()
    assert (parts[1] - starts[1]).tolist() != (parts[3] - starts[3]).tolist()  # another text loses others


# --- any reducer, in a model --------------------------------------------------------------------------------------


class EverySecond(Reducer):
    """Keeps [CLS] and every second token after it, with a trainable gate and a loss; written for these tests."""

    def __init__(self, place: Place, after: int, gate: float = 1.0) -> None:
        super().__init__([after])
        self.place = place
        self.gate = nn.Parameter(torch.tensor(gate))
        self.seen: list[TokenView] = []

    def reduce(self, view: TokenView) -> Reduction:
        self.seen.append(view)
        kept = torch.nonzero(view.layout.positions % 2 == 0)[:, 0]
        layout = Layout([-(-length // 2) for length in view.layout.lengths])
        return Reduction(layout, kept, hidden=self.gate * view.hidden[kept], loss=3.0 * self.gate)


@pytest.mark.parametrize("place", PLACES)
def test_a_reducer_removes_physically_at_its_place(place: Place):
    model = tiny.model()
    model.encoder.reducer = EverySecond(place, after=2)
    model.encoder.keeps_last_states = True
    entered: dict[str, list[int]] = {"qkv": [], "up": []}
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        for part, counts in entered.items():
            getattr(layer, part).register_forward_hook(lambda _, args, __, to=counts: to.append(len(args[0])))
    output = model.run(tiny.batch([9, 4]))
    full, half = 13, 7  # 9 + 4, and 5 + 2
    assert entered["qkv"] == [full, half if place == "layer_input" else full, half, half]
    assert entered["up"] == [full, full if place == "layer_output" else half, half, half]
    assert [sum(work.attended) for work in output.work] == entered["qkv"]
    assert [sum(work.fed) for work in output.work] == entered["up"]
    assert [sum(work.alive) for work in output.work] == [full, half, half, half]


@pytest.mark.parametrize("place", PLACES)
def test_hidden_states_and_loss_of_a_reducer_reach_the_output(place: Place):
    model = tiny.model()
    batch = tiny.batch([9, 4])
    model.encoder.reducer = EverySecond(place, after=2, gate=1.0)
    with_one = model.run(batch)
    with_one.logits.sum().backward()
    assert model.encoder.reducer.gate.grad is not None
    assert model.encoder.reducer.gate.grad.abs() > 0
    assert with_one.loss is not None
    assert with_one.loss.item() == 3.0
    model.encoder.reducer = EverySecond(place, after=2, gate=0.5)
    with_half = model.run(batch)
    assert with_half.loss is not None
    assert with_half.loss.item() == 1.5
    assert not torch.allclose(with_half.logits, with_one.logits, atol=1e-3)


def test_the_state_of_tokens_travels_with_them():
    model = tiny.model()
    reducer = EverySecond("layer_output", after=1)
    reducer.after = frozenset({1, 2})
    model.encoder.reducer = reducer
    batch = packed(tiny.texts([9, 4]))
    model.run(batch)
    second = reducer.seen[1]
    # after every second token was kept once, the second removal sees positions 0 2 4 6 8 and 0 2 of the texts
    assert second.positions.tolist() == [0, 2, 4, 6, 8, 0, 2]
    assert torch.equal(second.ids, batch.ids[[0, 2, 4, 6, 8, 9, 11]])


@pytest.mark.parametrize("attention", [{"kind": "dense"}, {"kind": "window", "left": 2, "right": 1}], ids=str)
def test_received_keeps_the_tokens_that_were_attended_to(attention: dict[str, Any]):
    """Algorithm 1 with LTP's score (arXiv:2107.00910; equation 7 of Magic Pyramid, arXiv:2111.00230) for the norm."""
    model = tiny.model(reducer={"kind": "received", "after": [2], "ratio": 0.5}, attention=attention)
    captured: list[tuple[Tensor, Tensor]] = []
    reducer, layer = model.encoder.reducer, model.encoder.layers[1]
    reduce = reducer.reduce

    def capturing(view: TokenView) -> Reduction | None:
        found = reduce(view)
        assert found is not None
        captured.append((found.kept, view.layout.lengths_tensor))
        return found

    inputs: list[Tensor] = []
    layer.qkv.register_forward_hook(lambda _, __, output: inputs.append(output.detach()))
    reducer.reduce = capturing  # type: ignore[method-assign]
    batch = packed(tiny.texts([11, 6]))
    model.run(batch)
    pattern = AttentionPattern(2, 1, True) if attention["kind"] == "window" else AttentionPattern()
    scores = pattern.received(inputs[0], batch.layout, 4)  # itself tested against a loop in test_attention.py
    kept = captured[0][0].tolist()
    for start, length, count in ((0, 11, 5), (11, 6, 3)):  # ceil(.5 * 10), ceil(.5 * 5)
        best = sorted(range(start + 1, start + length), key=lambda token: -float(scores[token]))[:count]
        assert [token for token in kept if start <= token < start + length] == [start, *sorted(best)]
