"""A cascade answers as its members would, one after another; trace and clock see one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from eat.engines.packed import PackedModel
from eat.engines.precision import prepare
from eat.errors import EatError
from eat.model.batch import PackedBatch
from eat.model.cascade import Cascade, CascadeEncoder, load_system
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.options import Attention, Parts
from eat.model.tokenizer import encode_split, load_tokenizer, read_split
from eat.results.flops import flops
from eat.results.replay import replay
from eat.trace.recording import record_trace, trace_texts

LENGTHS = [9, 4, 17, 12, 3, 20]
PARTS = Parts(attention=Attention(), exits=[2])


def members() -> list[EatForSequenceClassification]:
    """One of two layers and one of four."""
    return [tiny.model(layers=2, last_head="distilbert", seed=1), tiny.model(last_head="bert", seed=2)]


def middle(probabilities: torch.Tensor) -> float:
    """A threshold that some rows reach and others do not."""
    top = probabilities.amax(dim=-1).sort().values
    return float((top[len(top) // 2 - 1] + top[len(top) // 2]) / 2)


def test_the_second_is_asked_for_what_the_first_is_unsure_of():
    first, second = members()
    cascade = CascadeEncoder([first.encoder, second.encoder])
    batch = tiny.batch(LENGTHS)
    with torch.inference_mode():
        early, late = first.run(batch).exits[2], second.run(batch).exits[4]
        tau = middle(early.softmax(-1))
        output = cascade(batch, ExitPolicy(("confidence",), tau))
        sure = early.softmax(-1).amax(dim=-1) >= tau
    assert 0 < sure.sum() < len(LENGTHS)
    torch.testing.assert_close(output.logits, torch.where(sure[:, None], early, late), atol=1e-5, rtol=1e-5)
    assert output.depth == [2 if row else 6 for row in sure.tolist()]
    assert (cascade.exits, cascade.shape.layers) == ([2, 6], 6)
    asked = [row for row, is_sure in enumerate(sure.tolist()) if not is_sure]
    assert [sorted(work.rows) for work in output.work] == [list(range(6))] * 2 + [asked] * 4
    assert [sum(work.fed) for work in output.work] == [sum(LENGTHS)] * 2 + [sum(LENGTHS[row] for row in asked)] * 4


def test_the_replay_of_its_trace_is_what_it_answers_one_by_one(tmp_path: Path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, model in zip(folders, members(), strict=True):
        model.save_pretrained(folder)
        tiny.save_tokenizer(folder)
    tiny.split(tmp_path / "dev.parquet", rows=20)
    trace = record_trace(folders, PARTS, tmp_path / "dev.parquet", tiny.UNNAMED, 32, "tiny")
    assert list(trace.logits) == [2, 6]
    assert trace.shape["layers"] == 6
    assert trace.shape["parameters"] == sum(
        parameter.numel() for model in members() for parameter in model.encoder.parameters()
    )
    system = load_system(folders, PARTS)
    for member in system.members:
        prepare(member, "float32")
    tau = middle(torch.tensor(trace.logits[2]).softmax(-1))
    policy = ExitPolicy(("confidence",), tau)
    played = replay(trace, policy)
    encoded = encode_split(load_tokenizer(folders[0]), read_split(tmp_path / "dev.parquet"), 32)
    with torch.inference_mode():
        for row, text in enumerate(encoded):
            output = system.encoder(PackedBatch.of([text]), policy)
            assert output.depth == [played.depth[row]]
            assert output.logits.argmax().item() == played.predictions[row]
    assert set(played.depth) == {2, 6}


def test_who_goes_on_pays_for_both():
    first, second = members()
    encoder = CascadeEncoder([first.encoder, second.encoder])
    encoded = tiny.texts(LENGTHS)
    ids, labels = [str(row) for row in range(6)], np.zeros(6, np.int64)
    alone = [trace_texts(PackedModel(model), encoded, ids, labels) for model in (first, second)]
    both = trace_texts(
        PackedModel(Cascade(encoder, second.config, [first.encoder, second.encoder])), encoded, ids, labels
    )
    cost = [flops(trace, np.full(6, depth), [depth]) for trace, depth in zip(alone, (2, 4), strict=True)]
    np.testing.assert_allclose(flops(both, np.full(6, 2), [2, 6]), cost[0])
    np.testing.assert_allclose(flops(both, np.full(6, 6), [2, 6]), cost[0] + cost[1])


def test_members_that_do_not_go_together_are_refused(tmp_path: Path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, classes in zip(folders, (2, 3), strict=True):
        saved(folder, classes)
    with pytest.raises(EatError, match=r"second and .*first differ in their labels; a cascade needs them equal"):
        load_system(folders, PARTS)


def saved(folder: Path, classes: int) -> None:
    model = tiny.model(classes=classes)
    model.config.id2label = {index: str(index) for index in range(classes)}
    model.save_pretrained(folder)
    tiny.save_tokenizer(folder)


def test_exits_that_are_not_the_members_ends_are_refused(tmp_path: Path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        saved(folder, 2)
    with pytest.raises(EatError, match=r"of 4, 4 layers has exits after \[2\], but its systems end after \[4, 8\]"):
        load_system(folders, PARTS)
