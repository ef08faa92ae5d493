"""Attention without a padded view: what is computed so, and that it equals the padded view. No GPU: the kernel of
PyTorch is replaced by plain attention on each row, which reads the ends of the rows as that kernel does."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest
import tiny
import torch
from torch import Tensor

from eat.engines import varlen
from eat.engines.packed import PackedModel
from eat.engines.varlen import VarlenPattern, fastest_pattern, varlen_fault
from eat.model.attention import AttentionPattern
from eat.model.exit_policy import ExitPolicy
from eat.model.layout import Layout

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The ends of the rows of each call of the stand-in."""
    found: list[list[int]] = []

    def varlen_attn(
        query: Tensor, key: Tensor, value: Tensor, ends: Tensor, _: Tensor, longest: int, __: int
    ) -> Tensor:
        assert ends.dtype == torch.int32
        assert query.shape == key.shape == value.shape
        found.append(ends.tolist())
        rows = list(zip(ends.tolist(), ends.tolist()[1:], strict=False))
        assert longest == max(end - start for start, end in rows)
        parts = []
        for start, end in rows:
            scores = torch.einsum("qhw,khw->hqk", query[start:end], key[start:end]) / query.shape[-1] ** 0.5
            parts.append(torch.einsum("hqk,khw->qhw", scores.softmax(-1), value[start:end]))
        return torch.cat(parts)

    module = types.ModuleType("torch.nn.attention.varlen")
    module.varlen_attn = varlen_attn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
    varlen_fault.cache_clear()
    yield found
    varlen_fault.cache_clear()


def test_a_batch_of_different_lengths_equals_the_padded_view(calls: list[list[int]]):
    model = PackedModel(tiny.model(exits=[2])).prepare("float32", CPU)
    texts = tiny.texts([17, 3, 24, 9, 9, 30])
    policy = ExitPolicy(("confidence",), 0.8)
    with torch.inference_mode():
        expected = model.runner(policy)(texts)
        model.encoder.pattern = VarlenPattern()  # type: ignore[union-attr]
        found = model.runner(policy)(texts)
    torch.testing.assert_close(found.logits(), expected.logits(), atol=1e-4, rtol=0.0)
    assert found.depth() == expected.depth()
    assert calls[0] == [0, 3, 12, 21, 38, 62, 92]  # the shortest first


def test_what_the_kernel_cannot_compute_stays_padded(calls: list[list[int]]):
    uneven, even = Layout([4, 9]), Layout([5, 5])
    window, dense = VarlenPattern(2, 2, True), VarlenPattern()
    for pattern, layout, bias in ((dense, even, None), (window, uneven, None), (dense, uneven, torch.zeros(13))):
        qkv = torch.randn(layout.tokens, 24, generator=torch.Generator().manual_seed(0))
        plain = AttentionPattern(pattern.left, pattern.right, pattern.window)
        assert pattern(qkv, layout, 2, key_bias=bias).equal(plain(qkv, layout, 2, key_bias=bias))
    assert calls == []
    dense(torch.randn(13, 24), uneven, 2)
    assert calls == [[0, 4, 13]]


def test_it_is_for_half_precision_on_cuda():
    pattern = AttentionPattern(3, 3, True)
    assert fastest_pattern(pattern, "float16", CPU) is pattern
    assert fastest_pattern(pattern, "float32", CUDA) is pattern


def test_it_is_taken_if_a_trial_agrees(calls: list[list[int]], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(varlen, "varlen_fault", lambda precision, device: varlen_fault(precision, CPU))
    assert fastest_pattern(AttentionPattern(3, 3, True), "bfloat16", CUDA) == VarlenPattern(3, 3, True)
    assert calls == [[0, 5, 8, 25]]


def test_a_kernel_that_disagrees_is_reported_once(
    calls: list[list[int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(varlen, "varlen_attention", lambda qkv, layout, heads: qkv[:, :64] + 1)
    assert varlen_fault("float16", CPU) == varlen_fault("float16", CPU) is not None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("attention in float16 is computed in a padded view: varlen_attn: it differs from the padded")


def test_an_older_pytorch_has_no_such_kernel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    varlen_fault.cache_clear()
    assert str(varlen_fault("float16", CPU)).endswith("has no varlen_attn")
    varlen_fault.cache_clear()
    assert capsys.readouterr().err == ""
