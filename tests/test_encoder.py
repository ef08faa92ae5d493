"""The packed forward pass: nothing that was removed is computed again, and nobody is answered otherwise for company.

Tolerance 1e-5 on logits of a row alone and in a batch: the same sums, in float32, in another order.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eat.engines.packed import PackedModel
from eat.errors import EatError
from eat.model.batch import PackedBatch
from eat.model.exit_policy import ExitPolicy
from eat.model.gradients import Gradients, at_exit
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.tokenizer import Encoded
from eat.results.replay import replay
from eat.results.trace import Trace
from eat.timing.agreement import tie_margin
from eat.trace.recording import trace_texts

LENGTHS = [17, 3, 24, 1, 9, 2, 30, 12, 12, 21, 6, 28]
NORM = {"kind": "norm", "after": [1, 3], "ratio": 0.3}
PARTS: dict[str, dict[str, Any]] = {
    "dense": {},
    "norm": {"reducer": NORM},
    "window": {"attention": {"kind": "window", "left": 3, "right": 2}},
    "eat": {"reducer": NORM, "attention": {"kind": "window", "left": 3, "right": 2}, "read": "mean"},
    "received": {"reducer": {"kind": "received", "after": [1, 2], "ratio": 0.5, "protect": ["cls", "sep"]}},
    "random": {"reducer": {"kind": "random", "after": [2], "ratio": 0.5}, "read": "mean"},
    "ltp": {
        "reducer": {
            "kind": "threshold",
            "after": [1, 2, 3, 4],
            "final": 0.0,
            "temperature": 0.1,
            "penalty": 0.0,
            "score": "mean",
        }
    },
    "power": {"reducer": {"kind": "retention", "after": [1, 2, 3], "longest": 8, "penalty": 0.0}, "read": "attention"},
    "adapler": {
        "reducer": {
            "kind": "predictor",
            "after": [1, 2, 3, 4],
            "size": 4,
            "eta": 0.9,
            "saliency_weight": 0.0,
            "penalty": 0.0,
            "sharpness": 1.0,
            "growth": 1.0,
            "softness": 0.1,
        }
    },
    "tome": {"reducer": {"kind": "merging", "after": [1, 3], "ratio": 0.5}, "read": "attention"},
}
TOLERANCE = {"atol": 5e-5, "rtol": 1e-5}  # padded in other groups, a sum is made in another order
RULES: list[tuple[str, ...]] = [("confidence",), ("entropy",), ("confidence", "agreement")]


def traced(model: EatForSequenceClassification, encoded: list[Encoded]) -> Trace:
    return trace_texts(
        PackedModel(model), encoded, [str(row) for row in range(len(encoded))], np.zeros(len(encoded), np.int64)
    )


def count_rows(model: EatForSequenceClassification) -> dict[str, list[int]]:
    """Rows that enter the linear products of attention and of the feed-forward part, a number a call."""
    counts: dict[str, list[int]] = {"qkv": [], "attention_output": [], "up": [], "down": []}
    for layer in model.encoder.layers:
        for part, found in counts.items():
            getattr(layer, part).register_forward_hook(lambda _, args, __, to=found: to.append(len(args[0])))
    return counts


@pytest.mark.parametrize("name", PARTS)
def test_the_last_layer_computes_what_its_head_reads(name: str):
    """[CLS] alone if the head reads nothing else; then the answers and their gradients are those of all tokens."""
    model = tiny.model(exits=[2], last_head="bert", **PARTS[name])
    alone = model.encoder.ends_with_first(4)
    assert alone == (name != "ltp")  # which removes tokens within each layer, the last included
    batch = PackedBatch.of(tiny.texts(LENGTHS))
    found = {}
    for keeps in (False, True):
        model.encoder.keeps_last_states = keeps
        model.zero_grad()
        counts = count_rows(model)
        output = model.encoder(batch)
        rows = {part: of_layers[-1] for part, of_layers in counts.items()}
        output.exits[4].square().sum().backward()
        gradients = [parameter.grad for parameter in model.encoder.layers.parameters()]
        found[keeps] = output, [torch.zeros(1) if grad is None else grad.clone() for grad in gradients], rows
    for ours, all_tokens in zip(found[False][1], found[True][1], strict=True):
        torch.testing.assert_close(ours, all_tokens, atol=1e-3, rtol=1e-4)
    for depth in (2, 4):
        torch.testing.assert_close(found[False][0].exits[depth], found[True][0].exits[depth], **TOLERANCE)
    assert [work.fed for work in found[False][0].work] == [work.fed for work in found[True][0].work]
    if alone:
        assert found[False][2]["up"] == found[False][2]["attention_output"] == len(LENGTHS)
        assert found[True][2]["up"] == sum(found[True][0].work[-1].fed)


@cache
def adaptive_model(parts: str) -> EatForSequenceClassification:
    """A model with a head after each layer."""
    return tiny.model(exits=[1, 2, 3], **PARTS[parts])


@pytest.fixture(params=list(PARTS))
def adaptive(request: pytest.FixtureRequest) -> EatForSequenceClassification:
    return adaptive_model(request.param)


# --- removed means removed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", ["dense", "eat", "received"])
def test_the_rows_that_enter_the_products_are_those_the_trace_counts(parts: str):
    model = tiny.model(exits=[2], **PARTS[parts])
    encoded = tiny.texts(LENGTHS)
    trace = traced(model, encoded)
    counts = count_rows(model)
    model.run(PackedBatch.of(encoded))
    attended, fed = trace.attended.sum(axis=0).tolist(), trace.fed.sum(axis=0).tolist()
    # of the last layer, [CLS] alone follows the attention, if the head reads nothing else
    alone = [len(LENGTHS)] if model.encoder.ends_with_first(4) else []
    output, feed = attended[: 4 - len(alone)] + alone, fed[: 4 - len(alone)] + alone
    assert counts == {"qkv": attended, "attention_output": output, "up": feed, "down": feed}
    assert alone or parts == "eat"
    assert (attended[-1] < sum(LENGTHS)) == (parts != "dense")


def test_rows_that_left_enter_no_further_product():
    model = tiny.model(exits=[1, 2, 3], **PARTS["eat"])
    encoded = tiny.texts(LENGTHS)
    trace = traced(model, encoded)
    policy = ExitPolicy(("confidence",), middle_threshold(trace))
    counts = count_rows(model)
    output = model.run(PackedBatch.of(encoded), policy)
    depth = np.array(output.depth)
    assert 1 in depth
    assert 4 in depth
    expected = [int(trace.fed[depth >= layer, layer - 1].sum()) for layer in (1, 2, 3, 4)]
    assert counts["qkv"] == counts["up"] == expected
    for layer, work in enumerate(output.work, start=1):
        assert sorted(work.rows) == np.flatnonzero(depth >= layer).tolist()
        assert work.fed == trace.fed[work.rows, layer - 1].tolist()
        stayed = [row for row in work.rows if depth[row] > layer or layer == 4]
        assert work.alive == trace.alive[stayed, layer - 1].tolist()


def middle_threshold(trace: Trace) -> float:
    """A threshold at which some texts leave after layer 1 and others run to the end."""
    top = np.stack([torch.tensor(trace.logits[depth]).softmax(-1).amax(-1).numpy() for depth in (1, 2, 3)])
    tau = float((top.max(axis=0).min() + top[0].max()) / 2)
    assert top.max(axis=0).min() < tau < top[0].max(), "draw another model: no threshold divides these texts"
    return tau


@pytest.mark.parametrize("read", ["cls", "mean"])
def test_removed_tokens_get_no_gradient_and_kept_ones_do(read: str):
    model = tiny.model(reducer={"kind": "norm", "after": [2], "ratio": 0.5}, read=read)
    outputs: list[Tensor] = []
    model.encoder.layers[1].output_norm.register_forward_hook(lambda *call: outputs.append(call[2]))
    batch = tiny.batch([14, 5])
    encoder = model.encoder
    kept = []
    reduce = encoder.reducer.reduce
    encoder.reducer.reduce = lambda view: kept.append(reduce(view)) or kept[0]
    output = model.run(batch)
    outputs[0].retain_grad()
    output.logits.square().sum().backward()
    reached = torch.zeros(batch.layout.tokens, dtype=torch.bool)
    reached[kept[0].kept] = True
    assert outputs[0].grad is not None
    norms = outputs[0].grad.norm(dim=1)
    assert (norms[~reached] == 0).all()
    assert (norms[reached] > 0).all()
    assert (~reached).any()


def gradients_by_exit(gradients: Gradients) -> tuple[dict[int, Tensor], dict[int, dict[int, Tensor]]]:
    """The logits of a model with exits after 1, 3 and 4, and layer -> exit -> gradient of that layer's weights."""
    model = tiny.model(exits=[1, 3])
    model.encoder.gradients = gradients
    output = model.run(tiny.batch([14, 5]))
    found: dict[int, dict[int, Tensor]] = {number: {} for number in range(1, 5)}
    for depth, logits in output.exits.items():
        model.zero_grad()
        logits.square().sum().backward(retain_graph=True)
        for number, layer in enumerate(model.encoder.layers, start=1):
            if layer.up.weight.grad is not None and layer.up.weight.grad.any():
                found[number][depth] = layer.up.weight.grad
    return output.exits, found


def test_a_layer_learns_from_the_next_exit_alone_where_gradients_stop():
    """SWEET (arXiv:2306.02307): the parameters between two exits are updated by the later of the two only."""
    everywhere, next_alone = gradients_by_exit("all")[1], gradients_by_exit("next_exit")[1]
    assert {layer: [*exits] for layer, exits in everywhere.items()} == {1: [1, 3, 4], 2: [3, 4], 3: [3, 4], 4: [4]}
    assert {layer: [*exits] for layer, exits in next_alone.items()} == {1: [1], 2: [3], 3: [3], 4: [4]}


def test_gradients_in_equilibrium_by_hand():
    """Li et al. (arXiv:1908.06294), gradient equilibrium: 1 / (k - i + 1) of an exit's, (k - i) / (k - i + 1) of later.

    Layers y = 7 x and z = 2 y, exits 3 x, 5 y and 11 z: d exit / dx is 3, 35 and 154; d exit / dy is 5 and 22.
    """
    x = torch.tensor(1.0, requires_grad=True)
    read, x_on = at_exit(x, "equilibrium", 3)
    first = 3 * read
    y = 7 * x_on
    y.retain_grad()
    read, y_on = at_exit(y, "equilibrium", 2)
    second = 5 * read
    z = 2 * y_on
    read, _ = at_exit(z, "equilibrium", 1)
    third = 11 * read
    (first + second + third).backward()
    assert x.grad is not None and y.grad is not None
    assert x.grad.item() == pytest.approx(3 / 3 + 2 / 3 * (7 * (5 / 2 + 1 / 2 * 22)))
    assert x.grad.item() == pytest.approx((3 + 35 + 154) / 3)
    assert y.grad.item() == pytest.approx((5 + 22) / 2)


def test_in_equilibrium_a_layer_learns_from_each_of_its_m_exits_with_an_mth():
    plain, alone = gradients_by_exit("all")
    logits, balanced = gradients_by_exit("equilibrium")
    assert all(torch.equal(logits[depth], plain[depth]) for depth in plain), "only the backward pass differs"
    for layer, exits in alone.items():
        for depth, gradient in exits.items():
            torch.testing.assert_close(balanced[layer][depth], gradient / len(exits), atol=1e-6, rtol=1e-4)


def test_a_step_without_some_layers_is_that_of_the_pruned_model():
    """LayerDrop (arXiv:1909.11556): in training each layer is left out with probability p, otherwise unchanged."""
    whole = tiny.model(layers=6, dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
    whole.train()
    whole.encoder.layer_drop = 0.5
    batch = tiny.batch([14, 5])
    torch.manual_seed(0)
    kept = [depth for depth, draw in enumerate(torch.rand(6).tolist()) if draw >= 0.5]
    assert 0 < len(kept) < 6
    pruned = tiny.model(layers=len(kept), dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
    pruned.encoder.embeddings.load_state_dict(whole.encoder.embeddings.state_dict())
    for layer, depth in zip(pruned.encoder.layers, kept, strict=True):
        layer.load_state_dict(whole.encoder.layers[depth].state_dict())
    pruned.encoder.head(len(kept)).load_state_dict(whole.encoder.head(6).state_dict())
    torch.manual_seed(0)
    assert torch.equal(whole.encoder(batch).exits[6], pruned.encoder(batch).exits[len(kept)])
    whole.eval()
    assert [sum(work.fed) for work in whole.run(batch).work] == [19] * 6, "at inference all layers run"


def test_layers_are_dropped_at_their_rate():
    model = tiny.model()
    model.train()
    model.encoder.layer_drop = 0.2
    torch.manual_seed(0)
    count = sum(len(model.encoder._dropped_layers()) for _ in range(2500))
    # of 10,000 draws 2,000 are expected, with a standard deviation of 40
    assert abs(count - 2000) < 4 * 40


# --- exits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids="-".join)
def test_the_engine_answers_as_the_replay_of_its_trace(adaptive: EatForSequenceClassification, rule: tuple[str, ...]):
    encoded = tiny.texts(LENGTHS)
    trace = traced(adaptive, encoded)
    temperatures = {1: 0.8, 2: 1.5, 3: 1.0}
    depths = []
    for tau in (0.02, 0.3, 0.55, 0.65, 0.8, 0.95, 1.0):
        policy = ExitPolicy(rule, tau, temperatures)
        played = replay(trace, policy)
        margin = tie_margin(trace, policy, played)
        clear = margin > 1e-5  # at a tie rounding decides
        assert clear.mean() > 0.8
        with torch.no_grad():
            output = adaptive.run(PackedBatch.of(encoded), policy)
        assert np.array_equal(np.array(output.depth)[clear], played.depth[clear])
        answered = output.logits.numpy()
        expected = np.stack([trace.logits[depth][row] for row, depth in enumerate(played.depth)])
        np.testing.assert_allclose(answered[clear], expected[clear], **TOLERANCE)
        depths.append(np.array(output.depth))
    assert all((lower <= higher).all() for lower, higher in pairwise(depths))
    assert max(depths[-1]) <= 4


def test_a_threshold_of_1_is_the_full_model_and_a_tiny_one_the_first_exit(adaptive: EatForSequenceClassification):
    batch = tiny.batch(LENGTHS)
    with torch.no_grad():
        full = adaptive.run(batch)
        never = adaptive.run(batch, ExitPolicy(("confidence",), 1.0))
        nobody = adaptive.run(batch, ExitPolicy())
        at_once = adaptive.run(batch, ExitPolicy(("confidence",), 1e-6))
    assert torch.equal(never.logits, full.exits[4])
    assert torch.equal(nobody.logits, full.logits)
    assert never.depth == nobody.depth == full.depth == [4] * len(LENGTHS)
    assert torch.equal(at_once.logits, full.exits[1])
    assert at_once.depth == [1] * len(LENGTHS)
    assert list(full.exits) == [1, 2, 3, 4]
    assert never.exits == {}


def test_agreement_alone_leaves_where_two_neighbouring_exits_say_the_same():
    model = tiny.model(exits=[1, 2, 3])
    batch = tiny.batch(LENGTHS)
    with torch.no_grad():
        classes = {depth: logits.argmax(-1) for depth, logits in model.run(batch).exits.items()}
        output = model.run(batch, ExitPolicy(("agreement",)))
    expected = [
        next((depth for depth in (2, 3) if classes[depth][row] == classes[depth - 1][row]), 4)
        for row in range(len(LENGTHS))
    ]
    assert output.depth == expected
    assert len(set(expected)) > 1, "draw another model: all texts leave at one depth"


def test_nan_is_no_exit():
    model = tiny.model(exits=[1, 2, 3])
    with torch.no_grad():
        for depth in ("1", "2"):
            model.encoder.exit_heads[depth].classifier.bias.fill_(torch.nan)
        for rule in (*RULES, ("agreement",)):
            output = model.run(tiny.batch([9, 5]), ExitPolicy(rule, None if rule == ("agreement",) else 0.01))
            assert min(output.depth) >= 3
            assert output.logits.isfinite().all()


def test_a_row_alone_equals_the_row_in_a_batch(adaptive: EatForSequenceClassification):
    encoded = tiny.texts(LENGTHS, pairs=True)
    trace = traced(adaptive, encoded)
    policy = ExitPolicy(("confidence",), 0.6)
    clear = tie_margin(trace, policy, replay(trace, policy)) > 1e-5
    with torch.no_grad():
        full, leaving = (adaptive.run(PackedBatch.of(encoded), chosen) for chosen in (None, policy))
        for row, text in enumerate(encoded):
            if clear[row]:
                alone = adaptive.run(PackedBatch.of([text]))
                for depth, logits in alone.exits.items():
                    torch.testing.assert_close(full.exits[depth][row], logits[0], **TOLERANCE)
                alone = adaptive.run(PackedBatch.of([text]), policy)
                assert alone.depth == [leaving.depth[row]]
                torch.testing.assert_close(leaving.logits[row], alone.logits[0], **TOLERANCE)
    assert clear.mean() > 0.8


@settings(max_examples=25)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.floats(0.01, 1.0), st.sampled_from(list(PARTS)))
def test_depth_is_within_the_model_and_the_order_of_rows_does_not_matter(lengths: list[int], tau: float, parts: str):
    model = adaptive_model(parts)
    encoded = tiny.texts(lengths)
    policy = ExitPolicy(("confidence",), tau)
    with torch.no_grad():
        forward = model.run(PackedBatch.of(encoded), policy)
        backward = model.run(PackedBatch.of(encoded[::-1]), policy)
    assert all(1 <= depth <= 4 for depth in forward.depth)
    trace = traced(model, encoded)
    for row in np.flatnonzero(tie_margin(trace, policy, replay(trace, policy)) > 1e-5):
        assert forward.depth[row] == backward.depth[-1 - row]
        torch.testing.assert_close(forward.logits[row], backward.logits[-1 - row], **TOLERANCE)


@pytest.mark.parametrize(
    ("policy", "evaluated"),
    [
        (None, [1, 2, 3, 4]),
        (ExitPolicy(), [4]),
        (ExitPolicy(("confidence",), 1.0), [4]),
        (ExitPolicy(("confidence",), 1e-6), [1]),
        (ExitPolicy(("confidence",), 0.999999), [1, 2, 3, 4]),
    ],
    ids=["trace", "no-rule", "tau-1", "tau-tiny", "tau-high"],
)
def test_heads_are_evaluated_only_where_they_are_used(policy: ExitPolicy | None, evaluated: list[int]):
    model = tiny.model(exits=[1, 2, 3])
    calls: list[int] = []
    for depth, head in model.encoder.exit_heads.items():
        head.register_forward_hook(lambda *_, at=int(depth): calls.append(at))
    model.run(tiny.batch([9, 5]), policy)
    assert calls == evaluated


@pytest.mark.parametrize("read", ["cls", "mean"])
def test_the_exit_is_checked_before_the_removal_that_follows_its_layer(read: str):
    # eat.md: the head after layer 2 reads what layer 2 computed, all tokens of it
    encoded = tiny.texts(LENGTHS)
    pruned = tiny.model(exits=[2], reducer={"kind": "norm", "after": [2], "ratio": 0.5}, read=read)
    whole = tiny.model(exits=[2], read=read)
    with torch.no_grad():
        ours, unpruned = pruned.run(PackedBatch.of(encoded)), whole.run(PackedBatch.of(encoded))
    assert torch.equal(ours.exits[2], unpruned.exits[2])
    assert not torch.allclose(ours.exits[4], unpruned.exits[4], atol=1e-3)


# --- training mode, limits ----------------------------------------------------------------------------------------


def test_dropout_acts_in_training_alone():
    rates = {"dropout": 0.5, "attention_dropout": 0.5, "head_dropout": 0.5}
    model, without = tiny.model(**rates), tiny.model(dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
    batch = tiny.batch([9, 5])
    assert torch.equal(model.run(batch).logits, without.run(batch).logits)
    for one in (model, without):
        one.train()
    assert not torch.allclose(model.run(batch).logits, model.run(batch).logits, atol=1e-3)
    assert torch.equal(without.run(batch).logits, without.run(batch).logits)


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "head_dropout"])
def test_each_dropout_is_in_use(rate: str):
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, rate: 0.5}
    model = tiny.model(**rates).train()
    batch = tiny.batch([9, 5])
    assert not torch.allclose(model.run(batch).logits, model.run(batch).logits, atol=1e-4)


def test_a_text_longer_than_the_positions_is_refused_in_one_line():
    with pytest.raises(EatError, match=r"a text of 65 tokens, but the model has 64 positions; lower max_length"):
        tiny.model().run(tiny.batch([65]))
