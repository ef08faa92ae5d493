"""FLOPs by formula are those that PyTorch counts on a model which really removes tokens and leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_traces import make_trace
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eat.errors import EatError
from eat.model.attention import DENSE
from eat.model.head_parts import READERS
from eat.model.heads import ExitHead
from eat.model.layout import Layout
from eat.model.reducers.base import Dimensions
from eat.model.reducers.predictor import PredictorReducer
from eat.model.reducers.registry import build_reducer
from eat.results.flops import flops, head_flops
from eat.results.trace import Trace


class Eager(nn.Module):
    """BERT's matrix products in plain PyTorch: the counter sees nothing inside a fused attention."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        hidden, wide, classes = (trace.shape[key] for key in ("hidden", "intermediate", "classes"))
        self.trace = trace
        self.heads = trace.shape["heads"]
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, wide), nn.Linear(wide, hidden)
        self.pooler = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def attend(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)  # (heads, T, w) each
        scores = query @ key.transpose(1, 2)
        return self.out((scores.softmax(-1) @ value).transpose(0, 1).reshape(x.shape))

    def forward(self, row: int, depth: int, heads: list[int]) -> None:
        trace = self.trace
        x = torch.randn(int(trace.lengths[row]), trace.shape["hidden"])
        for layer in range(1, depth + 1):
            x = x + self.attend(x)
            x = x[: trace.fed[row, layer - 1]]
            x = x + self.down(self.up(x))
            if layer in heads:
                pooled = trace.shape["last_head"] != "linear" and layer == trace.shape["layers"]
                self.classifier(torch.tanh(self.pooler(x[:1])) if pooled else x[:1])
            x = x[: trace.alive[row, layer - 1]]


@pytest.mark.parametrize("last_head", ["linear", "bert", "distilbert"])
@pytest.mark.parametrize("heads", [[6], [3, 4, 6]])
def test_formula_equals_the_counter(last_head: str, heads: list[int]) -> None:
    trace = make_trace(rows=12, exits=(3, 4, 6), last_head=last_head)
    depth = np.array([3, 4, 6] * 4) if len(heads) > 1 else np.full(12, 6)
    counted = []
    for row in range(12):
        with FlopCounterMode(display=False) as counter:
            Eager(trace)(row, int(depth[row]), heads)
        counted.append(counter.get_total_flops())
    np.testing.assert_array_equal(flops(trace, depth, heads), counted)


def test_tokens_removed_between_attention_and_feed_forward_are_counted_where_they_worked() -> None:
    trace = make_trace(rows=6, after=())
    trace = replace(trace, fed=(trace.attended + 1) // 2, alive=(trace.attended + 1) // 2)
    trace.attended[:, 1:], trace.pairs[:, 1:] = trace.fed[:, :1], trace.fed[:, :1].astype(np.int64) ** 2
    trace = replace(trace, fed=np.repeat(trace.fed[:, :1], 6, axis=1), alive=np.repeat(trace.fed[:, :1], 6, axis=1))
    for row in range(6):
        with FlopCounterMode(display=False) as counter:
            Eager(trace)(row, 6, [6])
        assert flops(trace, np.full(6, 6), [6])[row] == counter.get_total_flops()


def test_layers_that_are_not_run_cost_nothing() -> None:
    trace = make_trace(rows=5)
    one, all_layers = (flops(trace, np.full(5, depth), []) for depth in (1, 6))
    hidden, wide, tokens = 8, 32, trace.lengths.astype(float)
    np.testing.assert_array_equal(
        one, 8 * hidden**2 * tokens + 4 * hidden * tokens**2 + 4 * hidden * wide * tokens
    )  # by hand
    assert (all_layers > one).all()


def test_a_head_costs_only_those_that_reach_it() -> None:
    trace = make_trace(rows=4)
    depth = np.array([4, 6, 4, 6])
    extra = flops(trace, depth, [4, 6]) - flops(trace, depth, [])
    np.testing.assert_array_equal(extra, head_flops(trace, 4) + np.array([0, 1, 0, 1]) * head_flops(trace, 6))


def test_pairs_of_the_pattern_are_a_column_of_their_own() -> None:
    trace = make_trace(rows=50)
    computed, pattern = (flops(trace, np.full(50, 6), [6], pattern=which) for which in (False, True))
    np.testing.assert_array_equal(computed - pattern, 4 * 8 * (trace.pairs - trace.pattern_pairs).sum(axis=1))


@pytest.mark.parametrize("depth", [0, 7])
def test_a_depth_the_model_does_not_have_is_refused(depth: int) -> None:
    with pytest.raises(EatError, match="layers 1 to 6"):
        flops(make_trace(rows=2), np.full(2, depth), [6])


def test_scoring_is_paid_for_in_the_layers_that_score() -> None:
    # attention logits once more: 2 d a pair, of the tokens attended; a predictor: 10 a token, of those at the input
    trace = make_trace(rows=6, exits=(3, 6))
    depth = np.array([3, 6] * 3)
    plain = flops(trace, depth, [6])
    pairs = replace(trace, shape=trace.shape | {"scoring": {"3": [0.0, 0.0, 16.0]}, "scoring_place": "after_attention"})
    np.testing.assert_allclose(flops(pairs, depth, [6]) - plain, 16.0 * trace.attended[:, 2].astype(float) ** 2)
    tokens = replace(trace, shape=trace.shape | {"scoring": {"5": [0.0, 10.0, 0.0]}, "scoring_place": "layer_input"})
    np.testing.assert_allclose(flops(tokens, depth, [6]) - plain, np.where(depth >= 5, 10.0 * trace.alive[:, 3], 0.0))
    first = replace(trace, shape=trace.shape | {"scoring": {"1": [0.0, 10.0, 0.0]}, "scoring_place": "layer_input"})
    np.testing.assert_allclose(flops(first, depth, [6]) - plain, 10.0 * trace.lengths)


@pytest.mark.parametrize("read", ["cls", "attention"])
@pytest.mark.parametrize("kind", ["linear", "bert"])
def test_a_head_costs_what_the_counter_counts(kind: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = ExitHead(32, 3, kind, read).eval()
    cost = head.operations()
    if head.reader is not None:  # eagerly: the counter sees nothing inside a fused attention
        monkeypatch.setitem(READERS, read, replace(READERS[read], read=lambda hidden, _, layers: eager(layers, hidden)))
    with FlopCounterMode(display=False) as counter:
        head(torch.randn(7, 32), Layout([7]))
    assert counter.get_total_flops() == cost.fixed + 7 * cost.per_token + 49 * cost.per_pair


def eager(layers: nn.ModuleDict, hidden: Tensor) -> Tensor:
    query, key, value = layers.qkv(torch.tanh(layers.narrow(hidden))).view(len(hidden), 3, 2, -1).permute(1, 2, 0, 3)
    return layers.output(((query @ key.transpose(1, 2)).softmax(-1) @ value)[:, 0].reshape(1, -1))


@pytest.mark.parametrize("kind", ["received", "predictor"])
def test_a_score_costs_what_the_counter_counts(kind: str) -> None:
    options = {"kind": "received", "after": [1], "ratio": 0.5}
    if kind == "predictor":
        options = {"kind": kind, "after": [1], "size": 5, "eta": 0.5, "saliency_weight": 0.0, "penalty": 0.0,
                   "sharpness": 1.0, "growth": 1.0, "softness": 0.1}  # fmt: skip
    reducer = build_reducer(options, Dimensions(hidden=32, layers=2, heads=4))
    cost = reducer.operations()
    with FlopCounterMode(display=False) as counter:
        if isinstance(reducer, PredictorReducer):
            reducer.predictors["1"](torch.randn(7, 32))
        else:
            DENSE.received(torch.randn(7, 96), Layout([7]), 4)
    assert counter.get_total_flops() == cost.fixed + 7 * cost.per_token + 49 * cost.per_pair
