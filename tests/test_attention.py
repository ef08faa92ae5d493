"""Attention: each way of computing a pattern against a loop over rows, in float64.

Tolerance 1e-5 on contexts and gradients of inputs drawn from N(0, 1), float32 against float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from eat.model import attention
from eat.model.attention import DENSE, AttentionPattern
from eat.model.layout import Layout

HEADS, WIDTH = 4, 8
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
PATTERNS = [DENSE, *(AttentionPattern(left, right, True) for left, right in ((3, 3), (4, 1), (0, 2), (0, 0)))]


def sees(pattern: AttentionPattern, query: int, key: int) -> bool:
    """Section 3.2: neighbours within the window, and [CLS] (position 0) both ways."""
    near = -pattern.left <= key - query <= pattern.right
    return not pattern.window or near or 0 in (query, key)


def naive(qkv: Tensor, lengths: list[int], pattern: AttentionPattern) -> tuple[Tensor, Tensor]:
    """Contexts (n, d) and the attention each token received (n,), row by row in the dtype of `qkv`."""
    contexts, received = [], []
    for part in qkv.split(lengths):
        length = len(part)
        query, key, value = part.view(length, 3, HEADS, WIDTH).permute(1, 2, 0, 3)
        seen = torch.tensor([[sees(pattern, i, j) for j in range(length)] for i in range(length)])
        scores = (query @ key.transpose(1, 2) / WIDTH**0.5).masked_fill(~seen, -torch.inf)
        weights = scores.softmax(dim=-1)  # (h, t, t)
        contexts.append((weights @ value).transpose(0, 1).reshape(length, HEADS * WIDTH))
        received.append(weights.mean(dim=(0, 1)))
    return torch.cat(contexts), torch.cat(received)


def random_qkv(lengths: list[int]) -> Tensor:
    return torch.randn(sum(lengths), 3 * HEADS * WIDTH, generator=torch.Generator().manual_seed(len(lengths)))


@pytest.fixture(params=[10_000, 0], ids=["band", "blocks"])
def blocked_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Forces one of the two ways for windows that do not cover a row; blocks of 8 queries, so that there are several.

    Rows that a window covers take the third way, dense attention, in both.
    """
    caches = (attention._band, attention._block_keys, attention._block_mask)
    monkeypatch.setattr(attention, "BLOCK", 8)
    for cache in caches:
        cache.cache_clear()
    yield request.param
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize(
    "lengths", [[29], [24, 24, 24], [29, 3, 17, 1, 8], [3, 3, 4, 4, 9, 10, 11, 29, 29], [4, 2], [5], [6], [1]], ids=str
)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{p.left}-{p.right}" if p.window else "dense")
def test_contexts_and_gradients_are_those_of_a_loop(
    pattern: AttentionPattern, lengths: list[int], blocked_from: int
) -> None:
    pattern, layout = replace(pattern, blocked_from=blocked_from), Layout(lengths)
    ours = random_qkv(lengths).requires_grad_()
    exact = random_qkv(lengths).double().requires_grad_()
    upstream = torch.randn(layout.tokens, HEADS * WIDTH, generator=torch.Generator().manual_seed(9))
    context = pattern(ours, layout, HEADS)
    expected, _ = naive(exact, lengths, pattern)
    torch.testing.assert_close(context.double(), expected, **TOLERANCE)
    (context * upstream).sum().backward()
    (expected * upstream).sum().backward()
    assert ours.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(ours.grad.double(), exact.grad, **TOLERANCE)


@pytest.mark.parametrize("lengths", [[450], [450, 400, 20]], ids=str)
def test_blocks_of_the_real_size_agree_with_a_band(lengths: list[int]) -> None:
    pattern = AttentionPattern(16, 16, True)
    layout, qkv = Layout(lengths), random_qkv(lengths)
    assert layout.longest > pattern.blocked_from
    blocked = pattern(qkv, layout, HEADS)
    band = replace(pattern, blocked_from=10_000)(qkv, layout, HEADS)
    torch.testing.assert_close(blocked, band, **TOLERANCE)


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 20))
@example(18, 16, 16)  # design: a window of 16 and 16 is dense attention up to 18 live tokens
@example(19, 16, 16)
def test_the_pattern_is_counted_and_found_to_cover_as_a_loop_finds(length: int, left: int, right: int) -> None:
    pattern = AttentionPattern(left, right, True)
    pairs = sum(sees(pattern, query, key) for query in range(length) for key in range(length))
    assert pattern.pattern_pairs(length) == pairs
    assert pattern.covers(length) == (pairs == length**2)


@pytest.mark.parametrize("length", [1, 5, 8, 9, 16, 29])
@pytest.mark.parametrize("pattern", PATTERNS[:3], ids=str)
def test_computed_pairs_are_those_given_to_the_kernel(
    pattern: AttentionPattern, length: int, blocked_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = replace(pattern, blocked_from=blocked_from)
    kernel = torch.nn.functional.scaled_dot_product_attention
    computed = 0

    def counting(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
        nonlocal computed
        computed += query.shape[0] * query.shape[2] * key.shape[2]
        return kernel(query, key, value, **options)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", counting)
    pattern(random_qkv([length]), Layout([length]), HEADS)
    assert computed == pattern.computed_pairs(length)


@pytest.mark.parametrize("lengths", [[29], [12, 12], [29, 3, 17, 1]], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS[:3], ids=str)
def test_attention_received_sums_to_one_a_row(pattern: AttentionPattern, lengths: list[int]) -> None:
    """Magic Pyramid (arXiv:2111.00230), equation 7, after LTP (arXiv:2107.00910): the mean over heads and queries."""
    qkv, layout = random_qkv(lengths), Layout(lengths)
    received = pattern.received(qkv, layout, HEADS)
    assert [part.sum().item() for part in received.split(lengths)] == pytest.approx([1.0] * len(lengths), abs=1e-5)
    torch.testing.assert_close(received.double(), naive(qkv.double(), lengths, pattern)[1], **TOLERANCE)


def test_weights_are_dropped_only_where_that_is_asked_for(blocked_from: int) -> None:
    lengths = [29, 17]
    qkv, layout, pattern = random_qkv(lengths), Layout(lengths), AttentionPattern(3, 3, True, blocked_from)
    assert torch.equal(pattern(qkv, layout, HEADS), pattern(qkv, layout, HEADS))
    assert not torch.allclose(pattern(qkv, layout, HEADS, 0.5), pattern(qkv, layout, HEADS), atol=1e-3)


@pytest.mark.parametrize("lengths", [[29], [29, 17]], ids=str)
def test_masks_cached_by_a_trace_serve_training(lengths: list[int], blocked_from: int) -> None:
    pattern, layout, qkv = AttentionPattern(3, 3, True, blocked_from), Layout(lengths), random_qkv(lengths)
    with torch.inference_mode():
        traced = pattern(qkv, Layout(lengths), HEADS)
    trained = pattern(qkv.requires_grad_(), layout, HEADS)
    trained.sum().backward()
    torch.testing.assert_close(trained, traced, **TOLERANCE)


@pytest.mark.parametrize("lengths", [[29], [24, 24, 24], [29, 3, 17, 1, 8]], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{p.left}-{p.right}" if p.window else "dense")
def test_a_bias_on_keys_is_added_to_every_logit_of_theirs(
    pattern: AttentionPattern, lengths: list[int], blocked_from: int
) -> None:
    """What soft removal in AdapLeR (arXiv:2203.08991) and proportional attention in ToMe (arXiv:2210.09461) ask for."""
    pattern, layout, qkv = replace(pattern, blocked_from=blocked_from), Layout(lengths), random_qkv(lengths)
    bias = torch.randn(layout.tokens, generator=torch.Generator().manual_seed(2)).requires_grad_()
    exact = bias.detach().double().requires_grad_()
    contexts, received = [], []
    for part, own in zip(qkv.double().split(lengths), exact.split(lengths), strict=True):
        query, key, value = part.view(len(part), 3, HEADS, WIDTH).permute(1, 2, 0, 3)
        seen = torch.tensor([[sees(pattern, i, j) for j in range(len(part))] for i in range(len(part))])
        scores = query @ key.transpose(1, 2) / WIDTH**0.5 + own
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        contexts.append((weights @ value).transpose(0, 1).reshape(len(part), -1))
        received.append(weights.mean(dim=(0, 1)))
    context = pattern(qkv, layout, HEADS, 0.0, bias)
    torch.testing.assert_close(context.double(), torch.cat(contexts), **TOLERANCE)
    torch.testing.assert_close(pattern.received(qkv, layout, HEADS, bias).double(), torch.cat(received), **TOLERANCE)
    context.square().sum().backward()
    torch.cat(contexts).square().sum().backward()
    assert bias.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(bias.grad.double(), exact.grad, atol=1e-4, rtol=1e-4)


def test_what_a_token_gives_to_itself_can_be_left_out() -> None:
    """As in the significance score of PoWER-BERT (arXiv:2001.08950)."""
    lengths = [5, 3]
    layout, qkv = Layout(lengths), random_qkv(lengths)
    found = DENSE.received(qkv, layout, HEADS, own_query=False)
    for part, start in zip(qkv.split(lengths), (0, 5), strict=True):
        query, key, _ = part.view(len(part), 3, HEADS, WIDTH).permute(1, 2, 0, 3)
        weights = (query @ key.transpose(1, 2) / WIDTH**0.5).softmax(dim=-1).mean(dim=0)
        expected = (weights - torch.diag(weights.diagonal())).mean(dim=0)
        torch.testing.assert_close(found[start : start + len(part)], expected, **TOLERANCE)
