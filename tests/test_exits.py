"""Exit rules by hand, and what holds for every probability."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from eat.errors import EatError
from eat.model.exit_policy import ExitPolicy
from eat.model.exit_rules import RULES as KNOWN
from eat.model.head_parts import KINDS, READERS
from eat.model.heads import ExitHead
from eat.model.layout import Layout

NAMES = [*KNOWN]
WITH_THRESHOLD = {"confidence", "entropy", "margin"}
RULES = [
    ("confidence",), ("entropy",), ("agreement",), ("margin",), ("confidence", "agreement"), ("entropy", "agreement"),
]  # fmt: skip


def fires(
    rule: Sequence[str], tau: float | None, probabilities: Mapping[int, torch.Tensor], patience: int = 1
) -> torch.Tensor:
    """Which rows exit at the last of these heads."""
    return ExitPolicy(tuple(rule), tau, patience=patience).fires(probabilities)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


def test_confidence_leaves_at_the_threshold_and_above():
    """EAT (arXiv:2510.12856), section 3.3: max_c P(y = c) >= tau."""
    assert fires(["confidence"], 0.75, {2: rows([0.75, 0.25], [0.7, 0.3])}).tolist() == [True, False]


def test_thresholds_may_differ_by_layer():
    policy = ExitPolicy(("confidence",), {2: 0.8, 4: 1.0})
    sure = rows([0.9, 0.1], [0.7, 0.3], [1.0, 0.0])
    assert policy.fires({2: sure}).tolist() == [True, False, True]
    assert policy.fires({2: sure, 4: sure}).tolist() == [False] * 3, "at 1 no text exits"
    assert policy.fires({2: sure, 4: sure, 5: sure}).tolist() == [False] * 3, "a layer without a threshold has 1"
    assert policy.margin(2, sure).tolist() == pytest.approx([0.1, 0.1, 0.2])
    assert policy.may_exit and not ExitPolicy(("confidence",), {2: 1.0}).may_exit


def test_thresholds_may_differ_by_the_class_of_the_answer():
    policy = ExitPolicy(("confidence",), {2: (0.6, 0.9), 4: (1.0, 0.8)})
    said = rows([0.7, 0.3], [0.3, 0.7], [0.05, 0.95], [1.0, 0.0])
    assert policy.fires({2: said}).tolist() == [True, False, True, True]
    assert policy.fires({2: said, 4: said}).tolist() == [False, False, True, False], "at 1 no text exits"
    assert policy.margin(2, said).tolist() == pytest.approx([0.1, 0.2, 0.05, 0.4])
    assert policy.may_exit and not ExitPolicy(("confidence",), {2: (1.0, 1.0)}).may_exit
    point = json.loads(json.dumps(policy.as_point()))
    assert point["tau"] == {"2": [0.6, 0.9], "4": [1.0, 0.8]}
    assert ExitPolicy.of(point, EXITS, classes=2) == policy
    with pytest.raises(EatError, match=r"^tau\.2: found 2 thresholds; give one, or one for each class"):
        ExitPolicy.of(point, EXITS, classes=3)


def test_one_undecided_head_vetoes_the_exit():
    """Two classes: the lead (1 + P(c) - P(k)) / 2 is P(c); of three, it is smaller where two of them compete."""
    clear, weak, other = rows([0.9, 0.1]), rows([0.7, 0.3]), rows([0.1, 0.9])
    for before, leaves in ((clear, True), (weak, False), (other, False)):
        assert fires(["margin"], 0.8, {2: before, 4: clear}).tolist() == [leaves]
    assert not fires(["margin"], 0.8, {2: clear}).any(), "the first head has none before it"
    assert fires(["margin"], 0.8, {1: weak, 2: clear, 4: clear}).tolist() == [True]
    assert fires(["margin"], 0.8, {1: weak, 2: clear, 4: clear}, patience=2).tolist() == [False]
    # of three classes, (1 + 0.6 - 0.4) / 2 = 0.6 and (1 + 0.6 - 0.2) / 2 = 0.7
    three = rows([0.6, 0.4, 0.0], [0.6, 0.2, 0.2])
    assert fires(["margin"], 0.65, {2: three, 4: three}).tolist() == [False, True]
    assert ExitPolicy(("margin",), 0.65).margin(2, three).tolist() == pytest.approx([0.05, 0.05])


def test_entropy_is_fastbert_s_uncertainty():
    """FastBERT (arXiv:2004.02178), equation 7; Magic Pyramid (arXiv:2111.00230), equation 5: 1 - u is the certainty."""
    # H(0.9, 0.1) / ln 2 = 0.468996 (-(0.9 log2 0.9 + 0.1 log2 0.1)): certainty 0.531004
    probabilities = {2: rows([0.9, 0.1])}
    assert fires(["entropy"], 0.5310, probabilities).tolist() == [True]
    assert fires(["entropy"], 0.5311, probabilities).tolist() == [False]
    # of three classes: H(1/2, 1/4, 1/4) / ln 3 = 1.5 ln 2 / ln 3
    three, certainty = {2: rows([0.5, 0.25, 0.25])}, 1 - 1.5 * math.log(2) / math.log(3)
    assert fires(["entropy"], certainty - 1e-4, three).tolist() == [True]
    assert fires(["entropy"], certainty + 1e-4, three).tolist() == [False]


def test_agreement_needs_the_same_class_at_the_exit_before():
    """EAT (arXiv:2510.12856), section 3.3, its "patience" variant: the same argmax at the exit before."""
    first = rows([0.9, 0.1], [0.9, 0.1])
    second = rows([0.6, 0.4], [0.4, 0.6])
    assert fires(["agreement"], None, {2: first}).tolist() == [False, False]
    assert fires(["agreement"], None, {2: first, 3: second}).tolist() == [True, False]
    # only the exit directly before counts
    assert fires(["agreement"], None, {2: first, 3: second, 4: second}).tolist() == [True, True]


def test_patience_counts_agreements_in_a_row():
    """The patience counter of PABEE (arXiv:2006.04152): one more where a head answers as the one before it, else 0.

    Of classes 0 1 1 1 0 0 it is - 0 1 2 0 1 after the second exit and on.
    """
    classes = [0, 1, 1, 1, 0, 0]
    exits = {depth: rows([0.9, 0.1] if found == 0 else [0.1, 0.9]) for depth, found in enumerate(classes, start=1)}
    for patience, leaves in ((1, [0, 0, 1, 1, 0, 1]), (2, [0, 0, 0, 1, 0, 0]), (3, [0] * 6)):
        found = [
            fires(["agreement"], None, dict(list(exits.items())[:depth]), patience).item() for depth in range(1, 7)
        ]
        assert found == [bool(one) for one in leaves]
    assert ExitPolicy(("agreement",), patience=2).fires(dict(list(exits.items())[:4])).tolist() == [True]


def test_branchynet_exits_below_an_entropy_in_nats():
    """BranchyNet (arXiv:1709.01686), its rule at inference: a sample leaves where the entropy is below T."""
    # H(3/4, 1/4) = 3/4 ln 4/3 + 1/4 ln 4 = 0.2158 + 0.3466 = 0.5623 nats
    for threshold, leaves in ((0.563, True), (0.562, False)):
        assert fires(["entropy"], 1 - threshold / math.log(2), {1: rows([0.75, 0.25])}).item() is leaves


def test_deebert_s_entropy_in_nats_is_a_certainty():
    """DeeBERT (arXiv:2004.12993), its rule at inference: a text leaves where the entropy is below S."""
    # S = 0.3 nats of two classes is tau = 1 - 0.3 / ln 2, with any head's probabilities
    tau = 1 - 0.3 / math.log(2)
    for sure, leaves in ((0.95, True), (0.90, False)):  # H = 0.1985 and 0.3251
        assert fires(["entropy"], tau, {1: rows([sure, 1 - sure])}).item() is leaves
    # p log p at p = 0 is 0, not NaN
    assert fires(["entropy"], tau, {1: rows([1.0, 0.0])}).item() is True


def test_all_rules_must_hold():
    first, second = rows([0.9, 0.1], [0.1, 0.9], [0.9, 0.1]), rows([0.8, 0.2], [0.8, 0.2], [0.6, 0.4])
    assert fires(["confidence", "agreement"], 0.7, {3: first, 4: second}).tolist() == [True, False, False]


@pytest.mark.parametrize("rule", RULES, ids="-".join)
def test_nan_never_leaves(rule: tuple[str, ...]):
    broken = torch.full((1, 2), torch.nan)
    assert not fires(rule, 0.1, {1: broken, 2: broken}).any()
    assert not fires(rule, 0.1, {1: rows([0.9, 0.1]), 2: broken}).any()


@given(st.lists(st.lists(st.floats(-40, 40), min_size=3, max_size=3), min_size=2, max_size=2), st.sampled_from(RULES))
def test_a_threshold_of_1_and_an_empty_rule_never_leave(logits: list[list[float]], rule: tuple[str, ...]):
    probabilities = {depth: torch.softmax(rows(values), dim=-1) for depth, values in enumerate(logits, start=1)}
    assert not fires(rule, 1.0, probabilities).any()
    assert not fires((), 0.5, probabilities).any()
    assert not ExitPolicy(rule, 1.0).may_exit
    assert not ExitPolicy().may_exit


@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=2, max_size=2),
    st.sampled_from(RULES),
    st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)).map(sorted),
)
def test_whoever_leaves_at_a_threshold_leaves_at_a_lower_one(
    logits: list[list[float]], rule: tuple[str, ...], taus: list[float]
):
    probabilities = {depth: torch.softmax(rows(values), dim=-1) for depth, values in enumerate(logits, start=1)}
    low, high = (fires(rule, tau, probabilities) for tau in taus)
    assert (low | ~high).all()


def test_probabilities_are_softmax_of_logits_over_the_head_s_temperature():
    logits = rows([2 * math.log(3), 0.0])  # at T = 2: ln 3 and 0, so 3/4 and 1/4; at T = 1: 9/10 and 1/10
    policy = ExitPolicy(("confidence",), 0.8, {2: 2.0})
    assert policy.probabilities(2, logits)[0].tolist() == pytest.approx([0.75, 0.25])
    assert policy.probabilities(4, logits)[0].tolist() == pytest.approx([0.9, 0.1])
    assert policy.fires({4: policy.probabilities(4, logits)}).tolist() == [True]
    assert policy.fires({2: policy.probabilities(2, logits)}).tolist() == [False]


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
        assert policy.fires(engine).tolist() == policy.fires(trace).tolist(), (rule, tau)


READ: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda part: part[0],
    "mean": lambda part: part.mean(dim=0),
    "max": lambda part: part.sort(dim=0).values[-1],
    "cls_mean_max": lambda part: torch.cat([READ[read](part) for read in ("cls", "mean", "max")]),
}
ACTIVATED: dict[str, Callable[[Tensor], Tensor]] = {
    "mlp": lambda x: x.clamp(min=0),
    "bert": lambda x: x.tanh(),
    "distilbert": lambda x: x.clamp(min=0),
    "electra": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
}


def test_every_part_of_a_head_is_tried():
    assert READERS.keys() == {*READ, "attention"}
    assert KINDS.keys() == {*ACTIVATED, "linear"}


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_their_formula(kind: str, read: str):
    torch.manual_seed(0)
    head = ExitHead(8, 3, kind, read, dropout=0.5).eval()
    tiny.randomise(head, 0)
    hidden = torch.randn(7, 8)
    first, second = hidden[:5], hidden[5:]
    vector = torch.stack([READ[read](part) for part in (first, second)])
    if head.projection is not None:
        vector = vector @ head.projection.weight.T + head.projection.bias
        vector = ACTIVATED[kind](vector)
    expected = nn.functional.linear(vector, head.classifier.weight, head.classifier.bias)
    torch.testing.assert_close(head(hidden, Layout([5, 2])), expected, atol=1e-6, rtol=0)
    assert head.classifier.in_features == (256 if kind == "mlp" else 24 if read == "cls_mean_max" else 8)


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


@pytest.mark.parametrize("given", [{"kind": "bertt"}, {"read": "maximum"}, {"read": None}, {"read": ["cls"]}], ids=str)
def test_a_head_of_no_kind_is_refused(given: dict[str, Any]):
    with pytest.raises(EatError, match=r"^exit head: found .*; allowed: "):
        ExitHead(8, 3, **given)


# --- operating points as people write them ------------------------------------------------------------------------

EXITS = [2, 4, 6]

REFUSED: dict[str, tuple[Any, str]] = {
    "a misspelt rule": ({"rule": ["confidense"], "tau": 0.9}, r"^rule: found \['confidense'\]; give a list .*: confid"),
    "a string": ({"rule": "confidence", "tau": 0.9}, "^rule: found 'confidence'; give a list"),
    "a rule of a study": ({"rule": ["risk_controlled"], "tau": 0.9}, "^rule: found"),
    "a rule twice": ({"rule": ["agreement", "agreement"]}, "^rule: found"),
    "no list": ({"rule": None}, "^rule: found None"),
    "tau above 1": (
        {"rule": ["confidence"], "tau": 1.5},
        "^tau of the rule confidence: found 1.5; give a number",
    ),
    "tau of NaN": ({"rule": ["entropy"], "tau": math.nan}, "^tau of the rule entropy: found nan"),
    "tau as text": ({"rule": ["confidence"], "tau": "0.9"}, "^tau of the rule confidence: found '0.9'"),
    "tau as a bool": ({"rule": ["confidence"], "tau": True}, "^tau of the rule confidence: found True"),
    "tau of 0": ({"rule": ["confidence"], "tau": 0}, "^tau of the rule confidence: found 0"),
    "no tau": ({"rule": ["confidence"]}, "^tau of the rule confidence: found None"),
    "tau without a rule": ({"rule": [], "tau": 0.9}, "^tau: found 0.9; it belongs to the rules confidence, entropy"),
    "tau of agreement": ({"rule": ["agreement"], "tau": 0.9}, "^tau: found 0.9; it belongs to"),
    "tau of a layer without an exit": (
        {"rule": ["confidence"], "tau": {6: 0.9}},
        "^tau: found layer 6; give each layer with a head once: 2, 4$",
    ),
    "tau above 1 at a layer": ({"rule": ["confidence"], "tau": {"2": 1.5}}, r"^tau\.2: found 1.5; give a number"),
    "patience of 0": ({"rule": ["agreement"], "patience": 0}, "^patience: found 0; give a whole number from 1 on"),
    "patience in part": ({"rule": ["agreement"], "patience": 1.5}, "^patience: found 1.5"),
    "patience as a bool": ({"rule": ["agreement"], "patience": True}, "^patience: found True"),
    "too much patience": ({"rule": ["agreement"], "patience": 2}, "needs 3 exits before the last .* after 2, 4, 6$"),
    "a layer without a head": ({"temperatures": {3: 1.5}}, "^temperatures: found layer 3; .* once: 2, 4, 6$"),
    "a layer that is none": ({"temperatures": {"two": 1.5}}, "^temperatures: found layer 'two'"),
    "a layer twice": ({"temperatures": {2: 1.5, "2": 1.0}}, "^temperatures: found layer '2'"),
    "a temperature of 0": ({"temperatures": {2: 0.0}}, r"^temperatures\.2: found 0.0; give a number above 0$"),
    "a temperature of NaN": ({"temperatures": {"4": math.nan}}, r"^temperatures\.4: found nan"),
    "an infinite temperature": ({"temperatures": {"4": math.inf}}, r"^temperatures\.4: found inf"),
    "temperatures in a list": ({"temperatures": [1.0, 1.5]}, "^temperatures: found"),
    "an unknown key": ({"threshold": 0.9}, "^operating point: found .* rule, tau, temperatures, patience$"),
    "no mapping": (["confidence"], "^operating point: found"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_operating_point_that_means_nothing_is_refused_in_one_line(what: str):
    point, message = REFUSED[what]
    with pytest.raises(EatError, match=message) as error:
        ExitPolicy.of(point, EXITS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("exits", [[6], [2, 6]], ids=str)
def test_a_rule_that_can_never_hold_is_refused(exits: list[int]):
    with pytest.raises(EatError, match=r"^rule: found .*, which needs \d exits before the last layer"):
        ExitPolicy.of({"rule": ["agreement"]}, exits)
    assert ExitPolicy.of({}, exits) == ExitPolicy()


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), np.int64(1), Fraction(1)], ids=lambda one: type(one).__name__)
def test_any_type_of_number_is_a_number(one: Any):
    point = {"rule": ("confidence", "agreement"), "tau": one, "temperatures": {np.int64(2): one}, "patience": 1}
    policy = ExitPolicy.of(point, EXITS)
    assert policy == ExitPolicy(("confidence", "agreement"), 1.0, {2: 1.0})
    assert json.loads(json.dumps(policy.as_point())) == policy.as_point()


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=2),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
)  # fmt: skip


def mostly(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(valid, valid, valid, JUNK)


POINTS = mostly(
    st.fixed_dictionaries(
        {},
        optional={
            "rule": mostly(st.lists(st.sampled_from([*NAMES, "risk_controlled", ""]), max_size=3)),
            "tau": mostly(
                st.floats(0.0, 1.2)
                | st.integers(0, 2)
                | st.dictionaries(st.sampled_from([2, "4", 6]), st.floats(0.1, 1.0), max_size=2)
            ),
            "temperatures": mostly(
                st.dictionaries(st.sampled_from([2, 4, 6, "2", "6", 3, "x"]), mostly(st.floats(0.1, 9.0)), max_size=3)
            ),
            "patience": mostly(st.integers(0, 3)),
        },
    )
)


@given(POINTS, st.sampled_from([[2, 4, 6], [1, 6], [6]]))
def test_an_operating_point_is_valid_and_survives_json_or_is_refused(point: Any, exits: list[int]):
    try:
        policy = ExitPolicy.of(point, exits)
    except EatError as error:
        assert "\n" not in str(error)
        return
    assert set(policy.rule) <= set(NAMES)
    assert len(set(policy.rule)) == len(policy.rule)
    assert (policy.tau is not None) == bool(set(policy.rule) & WITH_THRESHOLD)
    assert all(0.0 < policy.threshold(depth) <= 1.0 for depth in exits)
    assert set(policy.temperatures) <= set(exits)
    assert all(0.0 < temperature < math.inf for temperature in policy.temperatures.values())
    assert policy.patience >= 1
    assert not policy.rule or len(exits) > 1
    assert ExitPolicy.of(json.loads(json.dumps(policy.as_point())), exits) == policy


@given(
    st.lists(st.sampled_from(NAMES), unique=True), st.floats(0.0, 1.0, exclude_min=True), st.integers(1, 2),
    st.dictionaries(st.sampled_from(EXITS), st.floats(0.05, 20.0)),
)  # fmt: skip
def test_every_operating_point_that_means_something_is_taken(
    rule: list[str], tau: float, patience: int, temperatures: dict[int, float]
):
    given_tau = tau if set(rule) & WITH_THRESHOLD else None
    patience = 1 if {"agreement", "margin"} & set(rule) else patience
    point = {"rule": rule, "tau": given_tau, "temperatures": temperatures, "patience": patience}
    assert ExitPolicy.of(point, EXITS) == ExitPolicy(tuple(rule), given_tau, temperatures, patience)
