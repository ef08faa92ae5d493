"""The engines behind one interface: what each answers, and what it says of it.

Tolerance 1e-5 on logits of the same weights in float32: the sums are in another order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from eat.engines.engine import LoadedModel
from eat.engines.packed import PackedModel
from eat.engines.registry import MODULES, engine_of
from eat.engines.stock import StockModel
from eat.errors import EatError
from eat.model.exit_policy import ExitPolicy
from eat.model.options import Attention, Parts

CPU = torch.device("cpu")
LENGTHS = [17, 3, 24, 9]
FULL = ExitPolicy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model, as a study saves it."""
    path = tmp_path_factory.mktemp("engines") / "model"
    tiny.model(last_head="bert").save_pretrained(path)
    tiny.save_tokenizer(path)
    return path


@pytest.fixture(params=MODULES)
def loaded(request: pytest.FixtureRequest, folder: Path) -> LoadedModel:
    """The model in each engine."""
    return engine_of(request.param).load([folder], Parts(attention=Attention()), CPU)


@pytest.mark.parametrize("name", MODULES)
def test_the_module_of_an_engine_is_that_of_the_registry(name: str) -> None:
    """From it follows which rows are traced again after an edit."""
    assert type(engine_of(name)).__module__ == MODULES[name]


def test_an_unknown_engine_is_refused():
    with pytest.raises(EatError, match=r"^engine 'tensorflow' is unknown; known: torch, onnx, stock$"):
        engine_of("tensorflow")


def test_a_dense_model_is_the_same_in_every_engine(loaded: LoadedModel, folder: Path):
    texts = tiny.texts(LENGTHS)
    with torch.inference_mode():
        run = loaded.runner(FULL)(texts)
        expected = engine_of("torch").load([folder], Parts(attention=Attention()), CPU).runner(FULL)(texts)
    torch.testing.assert_close(run.logits(), expected.logits(), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(run.probabilities(), expected.probabilities(), atol=1e-5, rtol=0.0)
    assert run.classes == run.logits().argmax(dim=-1).tolist() == expected.classes
    assert run.depth() == [4] * len(LENGTHS)
    assert run.tokens() == [4 * length for length in LENGTHS]
    assert run.flops() == expected.flops()


def test_full_depth_gives_the_logits_of_the_operating_point_without_a_rule(loaded: LoadedModel):
    texts = tiny.texts(LENGTHS)
    with torch.inference_mode():
        found = loaded.full_depth(texts)
        run = loaded.runner(FULL)(texts)
    assert list(found.logits) == loaded.exits == [4]
    np.testing.assert_array_equal(found.logits[4], run.logits().numpy())
    for counts in (found.attended, found.fed, found.alive):
        np.testing.assert_array_equal(counts, np.repeat(np.array(LENGTHS)[:, None], 4, axis=1))
    assert np.isinf(found.cut_margin).all()
    assert loaded.pairs(7) == (49, 49)


def test_what_every_engine_says_of_its_model(loaded: LoadedModel):
    shape = loaded.shape()
    assert (loaded.layers, shape["layers"], shape["exits"]) == (4, 4, [4])
    assert (shape["task"], shape["device"]) == ("classification", "cpu")
    assert loaded.labels == shape["labels"] == tiny.UNNAMED


def test_a_stock_model_has_no_early_exits(folder: Path):
    model = engine_of("stock").load([folder], Parts(attention=Attention()), CPU)
    assert isinstance(model, StockModel)
    with pytest.raises(EatError, match="a stock model has no early exits"):
        model.runner(ExitPolicy(("confidence",), 0.5))
    with pytest.raises(EatError, match="a stock model cannot be a cascade"):
        engine_of("stock").load([folder, folder], Parts(), CPU)


def test_probabilities_have_the_temperature_of_the_exit_that_was_taken():
    model = PackedModel(tiny.model(exits=[2]))
    texts = tiny.texts(LENGTHS)
    temperatures = {2: 3.0, 4: 0.5}
    with torch.inference_mode():
        first = torch.from_numpy(model.full_depth(texts).logits[2]) / temperatures[2]
        # half of the texts are more certain than this
        tau = float(first.softmax(dim=-1).amax(dim=-1).quantile(0.5))
        run = model.runner(ExitPolicy(("confidence",), tau, temperatures))(texts)
    assert {*run.depth()} == {2, 4}
    for row, depth in enumerate(run.depth()):
        expected = torch.softmax(run.logits()[row] / temperatures[depth], dim=-1)
        torch.testing.assert_close(run.probabilities()[row], expected)
