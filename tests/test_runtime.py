"""The runner of exported models answers as PyTorch does, and refuses bad input in one line."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from browser import CHROMIUM, Tab, browser
from exported import LABELS, exported
from onnx import numpy_helper

from eat.engines.packed import PackedModel
from eat.errors import DamagedFile, EatError
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import encode
from eat.runtime import AdaptiveClassifier, Answer
from eat.runtime.manifest import FORMAT, MANIFEST, MODEL, TOKENIZER

ROOT = Path(__file__).resolve().parent.parent
REDUCER = {"kind": "norm", "after": [1, 3], "ratio": 0.3}
TEMPERATURES = {1: 1.3, 2: 0.7, 4: 2.0}
POINT = {"rule": ["confidence"], "tau": 0.7, "temperatures": TEMPERATURES}
TEXTS = [row["text"] for row in tiny.table(40).to_dict("records")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model with exits, and the folder of its export."""
    folder = tmp_path_factory.mktemp("exported")
    return exported(folder, point=POINT, exits=[1, 2], reducer=REDUCER), folder / "out"


@pytest.fixture
def copy(model: tuple[Any, Path], tmp_path: Path) -> Path:
    """A copy of the export, to damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in model[1].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def in_torch(model: Any, texts: list[str], policy: ExitPolicy, pairs: list[str] | None = None) -> list[Answer]:
    """The answers of the packed forward pass, to one text at a time."""
    run = PackedModel(model).runner(policy)
    found = []
    with torch.inference_mode():
        for text in encode(tiny.tokenizer(), texts, pairs, tiny.SHAPE["positions"]):
            one = run([text])
            probabilities = one.probabilities()[0].tolist()
            depth = one.depth()[0]
            reason = "last_layer" if depth == 4 else "+".join(policy.rule)
            label = LABELS[one.classes[0]]
            named = dict(zip(LABELS, probabilities, strict=True))
            found.append(Answer(label, max(probabilities), named, depth, reason))
    return found


def assert_same(found: list[Answer], expected: list[Answer]) -> None:
    assert [(one.label, one.depth, one.exit_reason) for one in found] == [
        (one.label, one.depth, one.exit_reason) for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert list(one.probabilities) == LABELS
        assert one.probability == max(one.probabilities.values()) == one.probabilities[one.label]
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-4)


def test_it_answers_as_pytorch_does(model: tuple[Any, Path]) -> None:
    built, folder = model
    expected = in_torch(built, TEXTS, built.policy)
    assert len({answer.depth for answer in expected}) > 1
    classify = AdaptiveClassifier.load(folder)
    assert_same(classify(TEXTS), expected)
    # the export changed nothing: exits are reported by the names of the rules
    assert {answer.exit_reason for answer in expected} == {"confidence", "last_layer"}


def test_pairs(model: tuple[Any, Path]) -> None:
    built, folder = model
    others = [" ".join(text.split()[:3]) for text in reversed(TEXTS)]
    found = AdaptiveClassifier.load(folder)(list(zip(TEXTS, others, strict=True)))
    assert_same(found, in_torch(built, TEXTS, built.policy, others))


def test_workers_give_the_same_answers_in_the_same_order(model: tuple[Any, Path]) -> None:
    classify = AdaptiveClassifier.load(model[1], threads=1)
    assert classify(TEXTS, workers=3) == classify(TEXTS)
    assert classify(TEXTS, workers=100) == classify(TEXTS)


def test_no_text_and_other_sequences(model: tuple[Any, Path]) -> None:
    classify = AdaptiveClassifier.load(model[1])
    assert classify([]) == []
    assert classify(tuple(TEXTS[:3])) == classify(TEXTS[:3])


def test_another_operating_point(model: tuple[Any, Path]) -> None:
    built, folder = model
    classify = AdaptiveClassifier.load(folder, tau=0.95, temperatures={1: 0.4, 2: 1.0, 4: 1.0})
    policy = ExitPolicy(("confidence",), 0.95, {1: 0.4, 2: 1.0, 4: 1.0})
    assert_same(classify(TEXTS), in_torch(built, TEXTS, policy))
    full = AdaptiveClassifier.load(folder, tau=1.0)(TEXTS)
    assert {answer.depth for answer in full} == {4}


def test_thresholds_by_exit_and_class(model: tuple[Any, Path]) -> None:
    _, folder = model
    # after layer 1 only class 1 may exit, always; after layer 2 nothing
    found = AdaptiveClassifier.load(folder, thresholds=[[1.0, 1e-6], [1.0, 1.0], [1.0, 1.0]])(TEXTS)
    assert {answer.depth for answer in found} == {1, 4}
    assert {answer.label for answer in found if answer.depth == 1} == {"positive"}


def test_long_texts_are_truncated_as_in_training(model: tuple[Any, Path]) -> None:
    built, folder = model
    text = " ".join(tiny.NEUTRAL[:100])
    classify = AdaptiveClassifier.load(folder)
    assert_same(classify([text]), in_torch(built, [text], built.policy))
    with pytest.raises(EatError, match=r"^text 1: has more than 64 tokens"):
        classify(["short", text], truncate=False)
    assert classify(["short"], truncate=False) == classify(["short"])
    short = AdaptiveClassifier.load(folder, max_length=8)
    assert short([text]) == classify([" ".join(tiny.NEUTRAL[:6])])


def test_an_answer_cannot_be_changed(model: tuple[Any, Path]) -> None:
    [answer] = AdaptiveClassifier.load(model[1])(TEXTS[:1])
    with pytest.raises(FrozenInstanceError):
        answer.label = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a text", r"^found str; give a list of texts"),
        (7, r"^found int; give a list of texts"),
        ([""], r"^text 0: found '', which is empty"),
        (["good", " \n"], r"^text 1: found .*, which is empty"),
        (["good", None], r"^text 1: found None; give a str"),
        ([b"good"], r"^text 0: found b'good'; give a str"),
        ([("a", "b", "c")], r"^text 0: found .*; give a str, or a tuple of two"),
        ([["a", "b"]], r"^text 0: found .*; give a str, or a tuple of two"),
        ([("a", "")], r"^text 0: found .*, which is empty"),
        (["good", "\ud800"], r"^text 1: contains half of a surrogate pair"),
    ],
)
def test_texts_that_are_refused(model: tuple[Any, Path], texts: Any, message: str) -> None:
    with pytest.raises(EatError, match=message):
        AdaptiveClassifier.load(model[1])(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, r"^tau: found 0.0; give a number above 0, at most 1"),
        ({"tau": 1.5}, r"^tau: found 1.5"),
        ({"tau": float("nan")}, r"^tau: found nan"),
        ({"tau": "0.5"}, r"^tau: found '0.5'"),
        ({"tau": True}, r"^tau: found True"),
        ({"tau": 0.5, "thresholds": [[0.5, 0.5]] * 3}, r"^both tau and thresholds"),
        ({"thresholds": [[0.5, 0.5]] * 2}, r"^thresholds: found 2 rows of 2; give a row for each exit \(1, 2, 4\)"),
        ({"thresholds": [[0.5]] * 3}, r"^thresholds: found 3 rows of 1"),
        ({"thresholds": [[0.5, 2.0]] * 3}, r"^thresholds: found 2.0"),
        ({"temperatures": {1: 1.0}}, r"^temperatures: found those of the layers 1; give one for each exit: 1, 2, 4"),
        ({"temperatures": {1: 1.0, 2: 0.0, 4: 1.0}}, r"^temperatures\[2\]: found 0.0"),
        ({"threads": 0}, r"^threads: found 0"),
        ({"max_length": 65}, r"^max_length: found 65; give a whole number from 4 to 64, the model's positions"),
        ({"max_length": 3}, r"^max_length: found 3"),
    ],
)
def test_options_that_are_refused(model: tuple[Any, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(EatError, match=message):
        AdaptiveClassifier.load(model[1], **options)


def test_workers_are_a_whole_number(model: tuple[Any, Path]) -> None:
    with pytest.raises(EatError, match=r"^workers: found 0"):
        AdaptiveClassifier.load(model[1])(TEXTS, workers=0)


def rewritten(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.update(changes)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(MODEL), r"model.onnx: has \d+ bytes with the sha256 .* copy all files"),
        (cut(TOKENIZER), r"tokenizer.json: has \d+ bytes with the sha256"),
        (cut(MANIFEST), r"manifest.json: not a whole JSON file"),
        (lambda folder: (folder / MODEL).unlink(), r"model.onnx: cannot be read \(No such file"),
        (lambda folder: (folder / MANIFEST).unlink(), r"no manifest.json; give a folder that `eat export` wrote"),
        (lambda folder: rewritten(folder, format=FORMAT + 1), r"is 2, and this version reads formats up to 1; update"),
        (lambda folder: rewritten(folder, format="1"), r"the format is '1'"),
        (lambda folder: rewritten(folder, files={}), r"manifest.json: lacks the key 'model.onnx'"),
        (lambda folder: rewritten(folder, labels=["one"]), r"manifest.json: 1 labels"),
        (lambda folder: rewritten(folder, exits=None), r"manifest.json: .*NoneType.*; export the model again"),
    ],
)
def test_folders_that_are_refused(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(EatError, match=message) as refused:
        AdaptiveClassifier.load(copy)
    assert "\n" not in str(refused.value)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(EatError, match=r"^/.*: no manifest.json"):
        AdaptiveClassifier.load(tmp_path / "none")


def replaced(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the model of an export and its digest."""
    proto = onnx.load(folder / MODEL)
    change(proto)
    content = proto.SerializeToString()
    (folder / MODEL).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][MODEL]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_runtime_without_an_operator(copy: Path) -> None:
    def newer(proto: onnx.ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "SkipLayerNormalization").op_type = "OfTheFuture"

    replaced(copy, newer)
    with pytest.raises(EatError, match=r"cannot run this model \(.*OfTheFuture.*\); update it: pip install") as refused:
        AdaptiveClassifier.load(copy)
    assert "\n" not in str(refused.value)


def test_damaged_weights(copy: Path) -> None:
    def broken(proto: onnx.ModelProto) -> None:
        weight = next(one for one in proto.graph.initializer if one.name == "embeddings.norm.weight")
        nan = np.full_like(numpy_helper.to_array(weight), np.nan)
        weight.CopyFrom(numpy_helper.from_array(nan, weight.name))

    replaced(copy, broken)
    with pytest.raises(EatError, match=r"^text 0: the model's probabilities are NaN"):
        AdaptiveClassifier.load(copy)(TEXTS)


def test_a_tokenizer_that_is_none(copy: Path) -> None:
    (copy / TOKENIZER).write_text("{}")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"][TOKENIZER]["sha256"] = hashlib.sha256(b"{}").hexdigest()
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DamagedFile, match=r"tokenizer.json: cannot be read"):
        AdaptiveClassifier.load(copy)


def test_a_model_without_thresholds(tmp_path: Path) -> None:
    exported(tmp_path, exits=[1, 2, 3], point={"rule": ["agreement"], "patience": 1})
    folder = tmp_path / "out"
    found = AdaptiveClassifier.load(folder)(TEXTS)
    assert {answer.exit_reason for answer in found} <= {"agreement", "last_layer"}
    with pytest.raises(EatError, match=r"exported without thresholds \(its exit rule: agreement\)"):
        AdaptiveClassifier.load(folder, tau=0.5)


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, eat.runtime; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'transformers', 'pandas', 'onnx', 'onnxruntime', 'numpy', 'tokenizers', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_it_runs_without_pytorch(model: tuple[Any, Path]) -> None:
    absent = ("torch", "transformers", "pandas", "onnx", "pydantic", "scipy", "yaml", "safetensors", "psutil")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); "
        "from eat.runtime import AdaptiveClassifier; "
        f"print([answer.depth for answer in AdaptiveClassifier.load({str(model[1])!r})({TEXTS[:5]!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    expected = [answer.depth for answer in AdaptiveClassifier.load(model[1])(TEXTS[:5])]
    assert done.stdout.strip() == str(expected)


# --- in a browser -------------------------------------------------------------------------------------------------

EXAMPLE = ROOT / "examples" / "browser"


@pytest.fixture
def page(model: tuple[Any, Path], tmp_path: Path) -> Iterator[Tab]:
    """The example's page with the exported model, in a browser."""
    if CHROMIUM is None or not (EXAMPLE / "node_modules").is_dir():
        pytest.skip(f"needs Chromium, and `npm install` in {EXAMPLE}")
    for name in ("index.html", "classifier.js"):
        shutil.copy(EXAMPLE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(EXAMPLE / "node_modules")
    (tmp_path / "model").symlink_to(model[1])
    handler = functools.partial(Quiet, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser() as tab:
        tab.call("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/index.html")
        end = time.monotonic() + 60
        while (state := tab.value("document.getElementById('state')?.textContent")) in (None, "Loading the model ..."):
            assert time.monotonic() < end, "the page does not get ready"
            time.sleep(0.1)
        assert state.startswith("Ready"), state
        yield tab
    server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files without a log."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.mark.report
def test_a_browser_gives_the_same_answers(page: Tab, model: tuple[Any, Path]) -> None:
    texts = [*TEXTS[:10], "good\u00e9 W\u00f6rd1 \u4f60\u597d, word2!", "word1\tword2\n", " ".join(tiny.NEUTRAL[:100])]
    for text, expected in zip(texts, AdaptiveClassifier.load(model[1])(texts), strict=True):
        call = f"window.classifier.classify({json.dumps(text)})"
        done = page.call("Runtime.evaluate", expression=call, awaitPromise=True, returnByValue=True)
        found = done["result"]["value"]
        assert (found["label"], found["depth"], found["exit_reason"]) == (
            expected.label,
            expected.depth,
            expected.exit_reason,
        )
        assert found["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-4)
    assert page.errors == []
