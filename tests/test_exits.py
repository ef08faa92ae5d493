"""Exit rules by hand, and what holds for every probability."""

from __future__ import annotations

import math
from itertools import product

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from eat.exits import ExitHead, ExitPolicy, certain_enough
from eat.layout import Layout

RULES = [("confidence",), ("entropy",), ("agreement",), ("confidence", "agreement"), ("entropy", "agreement")]


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


def test_confidence_leaves_at_the_threshold_and_above():
    """EAT (arXiv:2510.12856), section 3.3: max_c P(y = c) >= tau."""
    assert certain_enough(["confidence"], 0.75, {2: rows([0.75, 0.25], [0.7, 0.3])}).tolist() == [True, False]


def test_entropy_is_fastbert_s_uncertainty():
    """FastBERT (arXiv:2004.02178), equation 7; Magic Pyramid (arXiv:2111.00230), equation 5: 1 - u is the certainty."""
    # H(0.9, 0.1) / ln 2 = 0.468996 (-(0.9 log2 0.9 + 0.1 log2 0.1)): certainty 0.531004
    probabilities = {2: rows([0.9, 0.1])}
    assert certain_enough(["entropy"], 0.5310, probabilities).tolist() == [True]
    assert certain_enough(["entropy"], 0.5311, probabilities).tolist() == [False]
    # of three classes: H(1/2, 1/4, 1/4) / ln 3 = 1.5 ln 2 / ln 3
    three, certainty = {2: rows([0.5, 0.25, 0.25])}, 1 - 1.5 * math.log(2) / math.log(3)
    assert certain_enough(["entropy"], certainty - 1e-4, three).tolist() == [True]
    assert certain_enough(["entropy"], certainty + 1e-4, three).tolist() == [False]


def test_agreement_needs_the_same_class_at_the_exit_before():
    """EAT (arXiv:2510.12856), section 3.3, its "patience" variant: the same argmax at the exit before."""
    first = rows([0.9, 0.1], [0.9, 0.1])
    second = rows([0.6, 0.4], [0.4, 0.6])
    assert certain_enough(["agreement"], None, {2: first}).tolist() == [False, False]
    assert certain_enough(["agreement"], None, {2: first, 3: second}).tolist() == [True, False]
    # only the exit directly before counts
    assert certain_enough(["agreement"], None, {2: first, 3: second, 4: second}).tolist() == [True, True]


def test_patience_counts_agreements_in_a_row():
    """The patience counter of PABEE (arXiv:2006.04152): one more where a head answers as the one before it, else 0.

    Of classes 0 1 1 1 0 0 it is - 0 1 2 0 1 after the second exit and on.
    """
    classes = [0, 1, 1, 1, 0, 0]
    exits = {depth: rows([0.9, 0.1] if found == 0 else [0.1, 0.9]) for depth, found in enumerate(classes, start=1)}
    for patience, leaves in ((1, [0, 0, 1, 1, 0, 1]), (2, [0, 0, 0, 1, 0, 0]), (3, [0] * 6)):
        found = [
            certain_enough(["agreement"], None, dict(list(exits.items())[:depth]), patience).item()
            for depth in range(1, 7)
        ]
        assert found == [bool(one) for one in leaves]
    assert ExitPolicy(("agreement",), patience=2).leaves(dict(list(exits.items())[:4])).tolist() == [True]


def test_deebert_s_entropy_in_nats_is_a_certainty():
    """DeeBERT (arXiv:2004.12993), its rule at inference: a text leaves where the entropy is below S."""
    # S = 0.3 nats of two classes is tau = 1 - 0.3 / ln 2, with any head's probabilities
    tau = 1 - 0.3 / math.log(2)
    for sure, leaves in ((0.95, True), (0.90, False)):  # H = 0.1985 and 0.3251
        assert certain_enough(["entropy"], tau, {1: rows([sure, 1 - sure])}).item() is leaves
    # p log p at p = 0 is 0, not NaN
    assert certain_enough(["entropy"], tau, {1: rows([1.0, 0.0])}).item() is True


def test_all_rules_must_hold():
    first, second = rows([0.9, 0.1], [0.1, 0.9], [0.9, 0.1]), rows([0.8, 0.2], [0.8, 0.2], [0.6, 0.4])
    assert certain_enough(["confidence", "agreement"], 0.7, {3: first, 4: second}).tolist() == [True, False, False]


@pytest.mark.parametrize("rule", RULES, ids="-".join)
def test_nan_never_leaves(rule: tuple[str, ...]):
    broken = torch.full((1, 2), torch.nan)
    assert not certain_enough(rule, 0.1, {1: broken, 2: broken}).any()
    assert not certain_enough(rule, 0.1, {1: rows([0.9, 0.1]), 2: broken}).any()


@given(st.lists(st.lists(st.floats(-40, 40), min_size=3, max_size=3), min_size=2, max_size=2), st.sampled_from(RULES))
def test_a_threshold_of_1_and_an_empty_rule_never_leave(logits: list[list[float]], rule: tuple[str, ...]):
    probabilities = {depth: torch.softmax(rows(values), dim=-1) for depth, values in enumerate(logits, start=1)}
    assert not certain_enough(rule, 1.0, probabilities).any()
    assert not certain_enough((), 0.5, probabilities).any()
    assert not ExitPolicy(rule, 1.0).may_leave
    assert not ExitPolicy().may_leave


@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=2, max_size=2),
    st.sampled_from(RULES),
    st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)).map(sorted),
)
def test_whoever_leaves_at_a_threshold_leaves_at_a_lower_one(
    logits: list[list[float]], rule: tuple[str, ...], taus: list[float]
):
    probabilities = {depth: torch.softmax(rows(values), dim=-1) for depth, values in enumerate(logits, start=1)}
    low, high = (certain_enough(rule, tau, probabilities) for tau in taus)
    assert (low | ~high).all()


def test_probabilities_are_softmax_of_logits_over_the_head_s_temperature():
    logits = rows([2 * math.log(3), 0.0])  # at T = 2: ln 3 and 0, so 3/4 and 1/4; at T = 1: 9/10 and 1/10
    policy = ExitPolicy(("confidence",), 0.8, {2: 2.0})
    assert policy.probabilities(2, logits)[0].tolist() == pytest.approx([0.75, 0.25])
    assert policy.probabilities(4, logits)[0].tolist() == pytest.approx([0.9, 0.1])
    assert policy.leaves({4: policy.probabilities(4, logits)}).tolist() == [True]
    assert policy.leaves({2: policy.probabilities(2, logits)}).tolist() == [False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_half_precision_are_judged_as_in_the_replay_of_their_trace(dtype: torch.dtype):
    """A trace holds logits as float32: the engine must not round the probabilities it compares with a threshold."""
    generator = torch.Generator().manual_seed(0)
    logits = {depth: (3 * torch.randn(500, 2, generator=generator)).to(dtype) for depth in (2, 4)}
    for rule, tau in product(RULES, (0.6, 0.75, 0.9)):
        policy = ExitPolicy(rule, tau, {2: 1.3})
        engine, trace = (
            {depth: policy.probabilities(depth, values) for depth, values in found.items()}
            for found in (logits, {depth: values.float() for depth, values in logits.items()})
        )
        assert policy.leaves(engine).tolist() == policy.leaves(trace).tolist(), (rule, tau)


@pytest.mark.parametrize("read", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["linear", "bert", "distilbert"])
def test_heads_are_their_formula(kind: str, read: str):
    torch.manual_seed(0)
    head = ExitHead(8, 3, kind, read, dropout=0.5).eval()
    tiny.randomise(head, 0)
    hidden = torch.randn(7, 8)
    first, second = hidden[:5], hidden[5:]
    vector = torch.stack([part[0] if read == "cls" else part.mean(dim=0) for part in (first, second)])
    if head.projection is not None:
        vector = vector @ head.projection.weight.T + head.projection.bias
        vector = vector.tanh() if kind == "bert" else vector.clamp(min=0)
    expected = nn.functional.linear(vector, head.classifier.weight, head.classifier.bias)
    torch.testing.assert_close(head(hidden, Layout([5, 2])), expected, atol=1e-6, rtol=0)
    assert (head.projection is None) == (kind == "linear")


@pytest.mark.parametrize("kind", ["linear", "bert"])
def test_an_attending_head_is_fastbert_s(kind: str):
    """Linear d -> 128, tanh, self-attention (its four products) with two heads over the row, [CLS], the classifier.

    FastBERT (arXiv:2004.02178), the classifiers of section 3.1. Its table 1 counts 16.8 million operations for their
    self-attention on 128 tokens: four products of 2 x 128 x 128 each.
    """
    torch.manual_seed(0)
    head = ExitHead(8, 3, kind, "attention").eval()
    tiny.randomise(head, 0)
    hidden = torch.randn(7, 8)
    assert head.reader is not None
    vectors = []
    for part in (hidden[:5], hidden[5:]):
        narrow = nn.functional.linear(part, head.reader.narrow.weight, head.reader.narrow.bias).tanh()
        qkv = nn.functional.linear(narrow, head.reader.qkv.weight, head.reader.qkv.bias)
        query, key, value = qkv.view(len(part), 3, 2, 64).permute(1, 2, 0, 3)  # (heads, t, 64) each
        context = (query @ key.transpose(1, 2) / 8).softmax(dim=-1) @ value
        vectors.append(context[:, 0].flatten())
    output = head.reader.output
    vector = nn.functional.linear(torch.stack(vectors), output.weight, output.bias)
    if kind == "bert":
        assert head.projection is not None
        vector = (vector @ head.projection.weight.T + head.projection.bias).tanh()
    expected = nn.functional.linear(vector, head.classifier.weight, head.classifier.bias)
    torch.testing.assert_close(head(hidden, Layout([5, 2])), expected, atol=1e-5, rtol=1e-5)
