"""The packed forward pass in segments of fixed shapes, as CUDA graphs capture them, run on the CPU without capture.

Tolerance 1e-4 on logits of up to 10 in float32: padding changes the order of sums.
"""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from eat.engines import graphs
from eat.engines.graphs import GraphedModel, SegmentedEncoder
from eat.engines.packed import PackedModel
from eat.engines.segments import BUCKETS, Cells, Segment, bucket_of, buckets_of, segments_of
from eat.model.cascade import Cascade, CascadeEncoder
from eat.model.exit_policy import ExitPolicy

CPU = torch.device("cpu")
FULL = ExitPolicy()
LENGTHS = (2, 7, 8, 17, 33, 50, 64)
POLICIES = [FULL, ExitPolicy(("confidence",), 0.8), ExitPolicy(("confidence", "agreement"), 0.6)]
NORM = {"kind": "norm", "after": [1, 3], "ratio": 0.3}
WINDOW = {"kind": "window", "left": 3, "right": 2}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"last_head": "bert"},
    "window": {"attention": WINDOW},
    "exits": {"exits": [1, 2, 3]},
    "mean": {"exits": [1, 2, 3], "read": "mean", "head": "mlp"},
    "max": {"exits": [2], "read": "cls_mean_max"},
    "reader": {"exits": [1, 3], "read": "attention"},
    "removal": {"reducer": NORM, "exits": [2]},
    "removal after an exit": {"reducer": NORM, "exits": [1, 2], "attention": WINDOW},
    "random removal": {"reducer": {**NORM, "kind": "random", "protect": ["cls", "sep"]}, "exits": [3], "read": "mean"},
}


def packed(precision: str = "float32", **model: Any) -> PackedModel:
    return PackedModel(tiny.model(**model)).prepare(precision, CPU)


def graphed(**model: Any) -> GraphedModel:
    return GraphedModel(packed(**model), capture=False)


def test_a_text_goes_to_the_smallest_bucket_that_holds_it():
    assert [bucket_of(length, BUCKETS) for length in (1, 8, 9, 16, 33, 512, 513)] == [8, 8, 16, 16, 64, 512, None]
    assert buckets_of(64) == (8, 16, 32, 64)
    assert buckets_of(100) == (8, 16, 32, 64)
    assert buckets_of(512) == BUCKETS
    assert all(bucket % 8 == 0 for bucket in BUCKETS)


def test_segments_end_at_exits_and_removals():
    def found(may_exit: bool, **model: Any) -> list[tuple[int, int, bool]]:
        segments = segments_of(tiny.model(**model).encoder, may_exit)
        return [(segment.first, segment.last, segment.has_head) for segment in segments]

    assert found(True) == found(False) == [(1, 4, True)]  # a dense model is one graph
    assert found(True, exits=[1, 3]) == [(1, 1, True), (2, 3, True), (4, 4, True)]
    assert found(False, exits=[1, 3]) == [(1, 4, True)]
    assert found(True, exits=[2], reducer=NORM) == [(1, 1, False), (2, 2, True), (3, 3, False), (4, 4, True)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "policy", [FULL, ExitPolicy(("confidence",), 0.8), ExitPolicy(("confidence", "agreement"), 0.6)]
)
def test_segments_give_the_answers_of_the_packed_pass(name: str, policy: ExitPolicy):
    exits = MODELS[name].get("exits", [])
    if "agreement" in policy.rule and len(exits) < 2:
        policy = ExitPolicy(("confidence",), 0.6)
    model = graphed(**MODELS[name])
    run, expected = model.runner(policy), model.packed.runner(policy)
    depths = set()
    for seed in range(2):
        # from long to short, so that a bucket still holds another text's padding
        for text in reversed(tiny.texts(LENGTHS, seed)):
            with torch.inference_mode():
                own, eager = run([text]), expected([text])
            torch.testing.assert_close(own.logits(), eager.logits(), atol=1e-4, rtol=0.0)
            torch.testing.assert_close(own.probabilities(), eager.probabilities(), atol=1e-4, rtol=0.0)
            assert own.classes == eager.classes
            assert own.depth() == eager.depth()
            assert own.tokens() == eager.tokens()
            assert own.flops() == eager.flops()
            depths.add(own.depth()[0])
    assert model.fault is None
    assert depths <= {*exits, 4}
    assert len(depths) > 1 or policy is FULL or name not in ("exits", "removal")


def test_segment_ids_of_pairs_are_read():
    model = graphed(exits=[2])
    for text in tiny.texts([24, 10], pairs=True):
        with torch.inference_mode():
            own, eager = (one.runner(FULL)([text]).logits() for one in (model, model.packed))
        torch.testing.assert_close(own, eager, atol=1e-4, rtol=0.0)


def test_every_exit_is_recorded_at_full_depth():
    model = packed(exits=[1, 3])
    encoder = model.encoder
    segmented = SegmentedEncoder(encoder, CPU, captured=False)  # type: ignore[arg-type]
    (text,) = tiny.texts([20])
    with torch.inference_mode():
        expected = encoder(tiny.batch([20])).exits
    found = segmented(text).exits
    assert found.keys() == expected.keys() == {1, 3, 4}
    for depth, logits in expected.items():
        torch.testing.assert_close(found[depth], logits, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_buckets_agree_with_the_eager_pass_in_half_precision(precision: str):
    model = GraphedModel(packed(precision, exits=[2], reducer=NORM), capture=False)
    for bucket in model.buckets:
        assert 0.0 <= model.difference(bucket) <= graphs.TOLERANCE[precision]
    assert model.prepare(64).fault is None


def test_several_texts_and_long_ones_run_eagerly(monkeypatch: pytest.MonkeyPatch):
    model = graphed(positions=80)
    ran: list[int] = []
    original = SegmentedEncoder.__call__

    def counted(self: SegmentedEncoder, *given: Any, **named: Any) -> Any:
        ran.append(len(given[0].ids))
        return original(self, *given, **named)

    model.prepare(64)
    monkeypatch.setattr(SegmentedEncoder, "__call__", counted)
    for lengths in ([5, 9], [70], [64]):
        with torch.inference_mode():
            own, eager = (one.runner(FULL)(tiny.texts(lengths)).logits() for one in (model, model.packed))
        torch.testing.assert_close(own, eager, atol=1e-4, rtol=0.0)
    assert ran == [64]


def test_each_segment_is_captured_once_per_bucket_and_before_it_is_timed(monkeypatch: pytest.MonkeyPatch):
    captured: list[int] = []

    def capture(self: SegmentedEncoder, work: graphs.Launch, cells: Cells) -> graphs.Launch:
        captured.append(cells.bucket)
        return work

    monkeypatch.setattr(SegmentedEncoder, "_capture", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    model = graphed(exits=[2], reducer=NORM)
    segmented = model._segmented
    assert segmented is not None
    segmented.captured = True
    model.prepare(20)  # texts of up to 20 tokens need the bucket of 32, and after removals the smaller ones
    # layers 1, 2, 3 and 4, and 2 to 3 for a pass without exits
    assert sorted(captured) == sorted([8, 16, 32] * 5)
    run = model.runner(ExitPolicy(("confidence",), 0.99))
    for text in tiny.texts([20, 9, 4, 32]):
        run([text])
    model.runner(FULL)(tiny.texts([20]))
    assert len(captured) == len(segmented._launches) == 15


def test_a_bucket_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    original = graphs.run_segment

    def wrong_at_32(encoder: Any, segment: Segment, cells: Cells) -> None:
        original(encoder, segment, cells)
        if cells.bucket == 32:
            cells.logits += 1.0

    monkeypatch.setattr(graphs, "run_segment", wrong_at_32)
    model = graphed(exits=[2])
    run = model.runner(FULL)
    (short, long) = tiny.texts([10, 30])
    run([short])
    assert model.fault is None
    with torch.inference_mode():
        own, eager = run([long]).logits(), model.packed.runner(FULL)([long]).logits()
    assert own.equal(eager)
    assert model.buckets == ()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("CUDA graphs are not used: at 32 tokens the logits differ by ")


def test_a_failed_capture_is_reported_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def fails(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(graphs, "run_segment", fails)
    model = graphed()
    (text,) = tiny.texts([5])
    with torch.inference_mode():
        assert model.runner(FULL)([text]).logits().equal(model.packed.runner(FULL)([text]).logits())
    assert capsys.readouterr().err == (
        "CUDA graphs are not used: capturing 8 tokens failed: operation not permitted when stream is capturing\n"
    )


def test_without_cuda_the_eager_pass_is_used(capsys: pytest.CaptureFixture[str]):
    model = GraphedModel(packed(exits=[2]))
    texts = tiny.texts([9])
    with torch.inference_mode():
        assert model.runner(FULL)(texts).logits().equal(model.packed.runner(FULL)(texts).logits())
    assert capsys.readouterr().err == (
        "CUDA graphs are not used: graphs are captured on a GPU with CUDA, and the model is on cpu\n"
    )
    assert model.shape() == model.packed.shape()
    assert model.pairs(9) == model.packed.pairs(9)
    with torch.inference_mode():
        assert model.full_depth(texts).logits[4].shape == (1, 2)


@pytest.mark.parametrize("kind", ["received", "merging"])
def test_removal_within_a_layer_is_refused(kind: str):
    model = graphed(reducer={"kind": kind, "after": [2], "ratio": 0.3})
    assert model.fault is not None
    assert "Reducer removes tokens within a layer" in model.fault and "\n" not in model.fault


def test_a_cascade_is_refused():
    members = [tiny.model(layers=2), tiny.model()]
    encoder = CascadeEncoder([member.encoder for member in members])
    model = GraphedModel(PackedModel(Cascade(encoder, members[-1].config, list(encoder.members))), capture=False)
    assert model.fault == "a cascade runs several models, and graphs are captured for one; use the packed engine"
