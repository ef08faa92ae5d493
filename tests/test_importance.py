"""Rank correlations with saliency, and that listening to a reducer removes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from eat.results.columns import IMPORTANCE_COLUMNS
from eat.trace.importance import (
    _mean_of,
    compare_importance,
    correlations,
    rank_correlation,
    scores_by_layer,
    scoring_systems,
)

ADAPLER: dict[str, Any] = {
    "kind": "predictor", "after": [1, 3], "size": 4, "eta": 0.9, "saliency_weight": 0.1, "penalty": 0.0,
    "sharpness": 1.0, "growth": 1.0, "softness": 0.1,
}  # fmt: skip
REDUCERS: dict[str, dict[str, Any]] = {
    "norm": {"kind": "norm", "after": [1, 3], "ratio": 0.5},
    "received": {"kind": "received", "after": [1, 3], "ratio": 0.5},
    "random": {"kind": "random", "after": [1, 3], "ratio": 0.5},
    "threshold": {"kind": "threshold", "after": [1, 3], "final": 0.5, "temperature": 0.1, "penalty": 0.0},
    "retention": {"kind": "retention", "after": [1, 3], "longest": 4, "penalty": 0.0},
    "predictor": ADAPLER,
}


@pytest.mark.parametrize("rho", [-1.0, 0.0, 1.0])
def test_a_mean_of_equal_correlations_keeps_an_interval(rho: float) -> None:
    few, many = _mean_of([rho] * 2), _mean_of([rho] * 200)
    for found in (few, many):
        assert -1.0 <= found.low <= found.value == rho <= found.high <= 1.0
    assert few.high - few.low > 5 * (many.high - many.low) > 0
    assert np.isnan(_mean_of([rho]).low)


def test_rank_correlation_is_spearman_s():
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 90.0])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 4.0, -3.0])) == pytest.approx(-1.0)
    # no ties: 1 - 6 sum d^2 / (n (n^2 - 1)) with d = (1, 1, 0, 0): 1 - 12 / 60
    assert rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 3.0, 4.0])) == pytest.approx(0.8)
    assert rank_correlation(np.ones(3), np.array([1.0, 2.0, 3.0])) == 0.0


@pytest.mark.parametrize("kind", sorted(REDUCERS))
def test_every_score_is_heard_of_all_tokens(kind: str):
    model = tiny.model(reducer=REDUCERS[kind], last_head="bert")
    (text,) = tiny.texts([9])
    heard = scores_by_layer(model, text)
    assert list(heard) == [1, 3]
    for scores, free in heard.values():
        assert scores.shape == free.shape == (9,)
        assert free.tolist() == [False] + [True] * 8  # [CLS] is protected
        assert np.isfinite(scores).all()
    assert model.encoder.reducer.after == {1, 3}  # as it was


def test_a_score_that_is_the_judge_correlates_perfectly():
    model = tiny.model(reducer=REDUCERS["norm"], last_head="bert")
    texts = tiny.texts([9, 4, 12])
    worth = [torch.tensor(scores_by_layer(model, text)[1][0]) for text in texts]
    found = correlations(model, texts, worth)
    assert found[1] == pytest.approx([1.0, 1.0])  # the text of 4 tokens has 3 that may go: too few
    assert len(found[3]) == 2


def test_the_table_of_a_task(tmp_path: Path):
    study = tiny.study()
    models = {}
    for name, row in study.systems.items():
        model = tiny.model(
            row.exits.after, row.reducer.model_dump(), row.attention.model_dump(), last_head=row.last_head
        )
        model.save_pretrained(tmp_path / name)
        tiny.save_tokenizer(tmp_path / name)
        models[name, 1] = tmp_path / name
    tiny.split(tmp_path / "dev.parquet", rows=12)
    table = compare_importance(study, "tiny", models, tmp_path / "dev.parquet", texts=8)
    assert list(table.columns) == list(IMPORTANCE_COLUMNS)
    assert table[["system", "kind", "layer"]].to_numpy().tolist() == [["eat", "norm", 1], ["eat", "norm", 3]]
    assert (table["n"] <= 8).all()
    assert ((table["rho_low"] <= table["rho"]) & (table["rho"] <= table["rho_high"])).all()


def test_rows_that_score_alike_are_asked_once():
    systems = tiny.study().model_dump(mode="json", by_alias=True)["systems"]
    systems |= {
        "eat-surer": {"weights_of": "eat", "exits": {"tau": [0.99]}},
        "eat-int8": {"weights_of": "eat", "engine": "onnx", "precision": "int8"},
        "eat-random": {"weights_of": "eat", "reducer": {"kind": "random", "after": [1, 3]}},
        "eat-merging": {"weights_of": "eat", "reducer": {"kind": "merging", "after": [1, 3]}},
    }
    assert scoring_systems(tiny.study(systems=systems)) == ["eat", "eat-random"]
    by_name = {name: systems[name] for name in sorted(systems, reverse=True)}
    assert scoring_systems(tiny.study(systems=by_name)) == ["eat", "eat-random"]


def test_texts_that_are_too_short_for_ranks_have_no_correlation():
    model = tiny.model(reducer=REDUCERS["norm"], last_head="bert")
    texts = tiny.texts([4, 3])
    assert correlations(model, texts, [torch.ones(4), torch.ones(3)]) == {1: [], 3: []}
