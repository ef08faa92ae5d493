"""`eat export`: what is exported of which folder, and what is refused before anything is written."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
import torch
from exported import LABELS, exported, saved_model
from exported_rows import PROMISE, model_folder, write_results
from safetensors.torch import load_file, save_file

from eat.cli import main
from eat.engines.packed import PackedModel
from eat.errors import DamagedFile, EatError, listed
from eat.export.folder import export
from eat.export.source import ExportOptions, find_source
from eat.files import sha256_of
from eat.model.checkpoints import STOCK
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import encode
from eat.runtime import AdaptiveClassifier
from eat.runtime.manifest import FORMAT, MANIFEST, MODEL, TOKENIZER
from eat.study.paths import StudyPaths

TEXTS = [row["text"] for row in tiny.table(20).to_dict("records")]
POINT = {"rule": ["confidence"], "tau": 0.7, "temperatures": {2: 0.5, 4: 1.5}}
FILES = {MODEL, TOKENIZER, MANIFEST, "README.md"}


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_text())


# --- the files ----------------------------------------------------------------------------------------------------


def test_the_files(tmp_path: Path) -> None:
    exported(tmp_path, precision="int8", exits=[2], point=POINT, labels=["no", "perhaps", "yes"])
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == FILES
    manifest = manifest_of(out)
    assert next(iter(manifest)) == "format"
    assert manifest["format"] == FORMAT
    assert manifest["labels"] == ["no", "perhaps", "yes"]
    assert manifest["exits"] == [2, 4]
    assert manifest["operating_point"] == {
        "rule": ["confidence"], "tau": 0.7, "patience": 1, "temperatures": {"2": 0.5, "4": 1.5}, "origin": "saved",
    }  # fmt: skip
    assert (manifest["max_length"], manifest["positions"], manifest["pairs"]) == (64, 64, True)
    assert [manifest[key] for key in ("promised", "accuracy", "speed", "study")] == [None] * 4
    assert manifest["engine"]["precision"] == "int8"
    assert manifest["weights"] == [sha256_of(tmp_path / "model" / "model.safetensors")]
    for name in FILES - {MANIFEST}:
        assert manifest["files"][name] == {"sha256": sha256_of(out / name), "bytes": (out / name).stat().st_size}
    card = (out / "README.md").read_text()
    assert "threshold 0.7 (saved with the model)" in card
    assert "No study measured this model" in card


def test_a_gpu_that_is_there_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path / "one", exits=[2], point=POINT)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    exported(tmp_path / "two", exits=[2], point=POINT)
    assert (tmp_path / "one" / "out" / MODEL).read_bytes() == (tmp_path / "two" / "out" / MODEL).read_bytes()


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    exported(tmp_path, exits=[2], point=POINT)
    first = (tmp_path / "out" / MODEL).read_bytes()
    export(ExportOptions(tmp_path / "model", tmp_path / "again", "float32"))
    assert (tmp_path / "again" / MODEL).read_bytes() == first


def test_the_model_has_the_stated_inputs_with_defaults(tmp_path: Path) -> None:
    exported(tmp_path, exits=[2], point=POINT)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / MODEL))
    assert [given.name for given in session.get_inputs()] == ["ids", "types"]
    defaults = {given.name: given.shape for given in session.get_overridable_initializers()}
    assert defaults == {"temperatures": [2], "thresholds": [2, 2]}
    assert [given.name for given in session.get_outputs()][:5] == ["logits", "probabilities", "depth", "reason", "kept"]
    weights = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "out" / MODEL).graph.initializer
    }
    np.testing.assert_array_equal(weights["thresholds"], np.full((2, 2), 0.7, np.float32))
    np.testing.assert_array_equal(weights["temperatures"], np.array([0.5, 1.5], np.float32))


def test_int8_is_smaller(tmp_path: Path) -> None:
    exported(tmp_path / "int8", precision="int8", hidden=128, intermediate=512)
    exported(tmp_path / "float32", hidden=128, intermediate=512)
    sizes = [(tmp_path / precision / "out" / MODEL).stat().st_size for precision in ("int8", "float32")]
    assert sizes[0] < 0.35 * sizes[1]


# --- the operating point of a saved model -------------------------------------------------------------------------


def point_of(options: ExportOptions) -> tuple[ExitPolicy, str]:
    source = find_source(options)
    return source.policy, source.origin


def test_the_options_threshold_comes_before_the_saved_one(tmp_path: Path) -> None:
    saved_model(tmp_path / "m", exits=[2], point=POINT)
    expected = ExitPolicy(("confidence",), 0.7, {2: 0.5, 4: 1.5})
    assert point_of(ExportOptions(tmp_path / "m", tmp_path / "o")) == (expected, "saved")
    expected = ExitPolicy(("confidence",), 0.9, {2: 0.5, 4: 1.5})
    assert point_of(ExportOptions(tmp_path / "m", tmp_path / "o", tau=0.9)) == (expected, "option")


def test_a_model_without_an_operating_point_needs_the_option(tmp_path: Path) -> None:
    saved_model(tmp_path / "m", exits=[2])
    with pytest.raises(EatError, match=r"has exits after 2, 4 and no operating point; give --tau T .*save one with"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o"))
    assert point_of(ExportOptions(tmp_path / "m", tmp_path / "o", tau=0.8)) == (
        ExitPolicy(("confidence",), 0.8),
        "option",
    )


def test_a_model_without_exits_needs_none(tmp_path: Path) -> None:
    saved_model(tmp_path / "m")
    assert point_of(ExportOptions(tmp_path / "m", tmp_path / "o")) == (ExitPolicy(), "dense")
    with pytest.raises(EatError, match="needs 1 exits before the last layer"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o", tau=0.8))


def test_at_the_threshold_1_no_text_exits_early(tmp_path: Path) -> None:
    exported(tmp_path, exits=[2], tau=1.0)
    answers = AdaptiveClassifier.load(tmp_path / "out")(TEXTS)
    assert {(answer.depth, answer.exit_reason) for answer in answers} == {(4, "last_layer")}


def test_the_rule_agreement_has_no_threshold(tmp_path: Path) -> None:
    saved_model(tmp_path / "m", exits=[1, 2], point={"rule": ["agreement"]})
    with pytest.raises(EatError, match=r"^tau: found 0.5; it belongs to the rules"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o", tau=0.5))


# --- stock checkpoints --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_stock_classifier(tmp_path: Path, kind: str) -> None:
    stock = tiny.backbone(tmp_path / "m", kind, labels=3)
    export(ExportOptions(tmp_path / "m", tmp_path / "o", "float32"))
    answers = AdaptiveClassifier.load(tmp_path / "o")(TEXTS)
    with torch.inference_mode():
        for text, answer in zip(encode(tiny.tokenizer(), TEXTS, None, 64), answers, strict=True):
            expected = torch.softmax(stock(input_ids=text.ids[None]).logits[0], dim=-1)
            np.testing.assert_allclose(list(answer.probabilities.values()), expected.numpy(), atol=1e-4)
            assert (answer.depth, answer.exit_reason) == (4, "last_layer")


def test_stock_models_that_are_refused(tmp_path: Path) -> None:
    tiny.backbone(tmp_path / "m")
    with pytest.raises(EatError, match="a dense model of transformers; leave --tau out"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o", tau=0.5))
    config = json.loads((tmp_path / "m" / "config.json").read_text())

    def changed(**changes: Any) -> None:
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, **changes}))

    changed(architectures=["BertModel"])
    with pytest.raises(EatError, match="its class is BertModel, which has no head for classes"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o"))
    changed(problem_type="multi_label_classification")
    with pytest.raises(EatError, match="multi_label_classification"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o"))
    changed(id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(EatError, match="does not fit 3 classes"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o"))
    changed(id2label={"0": "a", "2": "c"})
    with pytest.raises(EatError, match="give a name for each class from 0"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o"))
    changed(model_type="gpt2")
    with pytest.raises(EatError, match=f"model_type is 'gpt2'; allowed: {listed(STOCK)}, eat"):
        find_source(ExportOptions(tmp_path / "m", tmp_path / "o"))


# --- the row of a study -------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a small study in a project's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write_results()


def options(trained: str = "eat", /, **given: Any) -> ExportOptions:
    return ExportOptions(model_folder(trained), Path("out"), **given)


def test_a_studys_model_has_the_chosen_threshold_and_its_temperatures(results: Path) -> None:
    source = find_source(options())
    assert source.policy == ExitPolicy(("confidence",), 0.6, {2: 0.8, 4: 1.4})
    assert (source.origin, source.max_length, source.labels) == ("study", 32, LABELS)
    assert find_source(options(max_length=16)).max_length == 16
    tau = find_source(options(tau=0.9))
    assert (tau.policy, tau.origin) == (ExitPolicy(("confidence",), 0.9, {2: 0.8, 4: 1.4}), "option")


def test_the_folder_may_be_given_from_elsewhere(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder().absolute()
    monkeypatch.chdir(results)
    with pytest.raises(EatError, match=r"no operating point.* or give the configuration of the study 'tiny' with"):
        find_source(ExportOptions(folder, Path("out")))
    config = results.parent.parent / "config"
    assert find_source(ExportOptions(folder, Path("out"), config=config / "tiny.yaml")).policy.tau == 0.6
    with pytest.raises(EatError, match="the study 'another', but the model is of 'tiny'"):
        find_source(ExportOptions(folder, Path("out"), config=config / "another.yaml"))


def test_a_saved_operating_point_comes_before_the_study(results: Path) -> None:
    saved_model(model_folder(), exits=[2], point=POINT)
    source = find_source(options())
    assert (source.policy.tau, source.origin, source.row, source.max_length) == (0.7, "saved", None, 32)
    # a named row does not
    assert find_source(options(system="eat-onnx")).policy.tau == 0.6


def test_what_was_measured_is_only_what_is_exported(results: Path) -> None:
    accuracy = {"split": "dev", "n": 40, "accuracy": 0.8, "mean_depth": 2.5}
    export(options(precision="int8"))
    manifest = manifest_of(Path("out"))
    assert [manifest[key] for key in ("accuracy", "speed", "promised")] == [None] * 3
    assert manifest["study"] == {
        "name": "tiny", "task": "tiny", "system": "eat", "seed": 1, "engine": "torch", "precision": "float32",
    }  # fmt: skip
    assert "Nothing in this form. The study ran it in float32" in Path("out/README.md").read_text()

    export(options(precision="float32"))
    manifest = manifest_of(Path("out"))
    assert (manifest["accuracy"], manifest["speed"]) == (accuracy, None)

    export(options(precision="int8", system="eat-onnx"))
    manifest = manifest_of(Path("out"))
    assert manifest["accuracy"] == accuracy
    assert [speed["batch_size"] for speed in manifest["speed"]] == [1, 32]
    assert manifest["speed"][0] == {
        "batch_size": 1, "device": "cpu", "threads": 2, "latency_ms_p50": 2.0, "examples_per_s": None,
        "speedup_vs_dense": 1.5, "speedup_low": 1.4, "speedup_high": 1.6,
        "cpu": "A CPU", "date": "2026-01-31", "busy": False,
    }  # fmt: skip
    card = Path("out/README.md").read_text()
    # Wilson's interval of 32 of 40, by its formula: 0.6524 to 0.8950
    assert "Accuracy on dev: 80.0 % [65.2, 89.5] of 40 texts" in card
    assert "1.50 times as fast" in card

    # another threshold of the study, and one that it does not have
    export(options(precision="int8", system="eat-onnx", tau=0.9))
    assert manifest_of(Path("out"))["accuracy"]["accuracy"] == pytest.approx(0.85)
    export(options(precision="int8", system="eat-onnx", tau=0.5))
    assert manifest_of(Path("out"))["accuracy"] is None
    assert "* Nothing at this operating point" in Path("out/README.md").read_text()


def test_a_row_with_other_parts(results: Path) -> None:
    source = find_source(options(system="eat-wide"))
    assert not source.model.encoder.reducer.after
    export(options(system="eat-wide", precision="float32"))
    texts = encode(tiny.tokenizer(), TEXTS, None, 32)
    with torch.inference_mode():
        run = PackedModel(source.model).runner(source.policy)
        depths = [run([text]).depth()[0] for text in texts]
    assert [answer.depth for answer in AdaptiveClassifier.load("out")(TEXTS)] == depths


def test_a_promise(results: Path) -> None:
    export(options(system="eat-safe", precision="float32"))
    manifest = manifest_of(Path("out"))
    assert manifest["operating_point"]["rule"] == ["confidence"]
    assert manifest["operating_point"]["tau"] == 0.75
    assert manifest["promised"] == {key: PROMISE[key] for key in ("risk", "epsilon", "delta", "n", "tau")}
    assert manifest["accuracy"]["accuracy"] == 0.8
    assert "the disagreement risk is at most 0.05" in Path("out/README.md").read_text()
    export(options(system="eat-safe", precision="float32", tau=0.6))
    assert manifest_of(Path("out"))["promised"] is None
    export(options(system="eat-safe", precision="int8"))
    assert manifest_of(Path("out"))["promised"] is None


def test_a_cascade(results: Path) -> None:
    export(options("dense", system="both", precision="float32"))
    manifest = manifest_of(Path("out"))
    assert (manifest["exits"], manifest["layers"]) == ([4, 8], 8)
    assert manifest["weights"] == [sha256_of(model_folder(name) / "model.safetensors") for name in ("dense", "other")]
    assert {answer.depth for answer in AdaptiveClassifier.load("out")(TEXTS)} <= {4, 8}


def test_a_dense_row(results: Path) -> None:
    export(options("dense", precision="float32"))
    manifest = manifest_of(Path("out"))
    assert manifest["operating_point"] == {
        "rule": [], "tau": None, "patience": 1, "temperatures": {"4": 1.1}, "origin": "dense",
    }  # fmt: skip
    assert manifest["accuracy"]["accuracy"] == 0.8


def test_rows_that_are_refused(results: Path) -> None:
    with pytest.raises(EatError, match="the study 'tiny' has no system 'eta'; its systems: both, dense, eat, eat-onnx"):
        find_source(options(system="eta"))
    with pytest.raises(EatError, match="'dense' of the study 'tiny' runs the weights of dense, stage finetune"):
        find_source(options(system="dense"))
    StudyPaths("tiny").operating_points("tiny").unlink()
    with pytest.raises(DamagedFile, match=r"operating_points/tiny\.parquet: no such file"):
        find_source(options())
    assert find_source(options(tau=0.9)).policy.tau == 0.9
    shutil.copy("config/tiny.yaml", "config/tiny2.yaml")
    with pytest.raises(EatError, match=r"config/tiny2.yaml are both of the study 'tiny'; give one with --config"):
        find_source(options())
    saved_model(Path("alone"))
    with pytest.raises(EatError, match="--system and --config are for a study's model folder"):
        find_source(ExportOptions(Path("alone"), Path("out"), system="eat"))


# --- refusals and the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau": 0.0}, "--tau: found 0.0"),
        ({"tau": 1.5}, "--tau: found 1.5"),
        ({"tau": float("nan")}, "--tau: found nan"),
        ({"precision": "int4"}, "--precision: found 'int4'; allowed: float32, int8"),
        ({"max_length": 2}, "--max-length: found 2; give a whole number from 4 on"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    saved_model(tmp_path / "m")
    with pytest.raises(EatError, match=message):
        ExportOptions(tmp_path / "m", tmp_path / "o", **given)


def test_models_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no such folder"):
        ExportOptions(tmp_path / "none", tmp_path / "o")
    out = tmp_path / "o"
    saved_model(tmp_path / "m", exits=[2], point=POINT)
    with pytest.raises(EatError, match=r"--max-length: found 65, but .* has 64 positions"):
        export(ExportOptions(tmp_path / "m", out, max_length=65))
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        export(ExportOptions(tmp_path / "m", out))
    weights.write_bytes(whole)
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(EatError, match=r"tokenizer\.json: no such file"):
        export(ExportOptions(tmp_path / "m", out))
    saved_model(tmp_path / "same", labels=["same", "same"])
    with pytest.raises(EatError, match="two classes have the same name"):
        export(ExportOptions(tmp_path / "same", out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "same"]


def test_a_folder_with_other_content_stays(tmp_path: Path) -> None:
    saved_model(tmp_path / "m")
    given = ExportOptions(tmp_path / "m", tmp_path / "o")
    (tmp_path / "o").mkdir()
    export(given)  # an empty folder
    export(given)  # an export
    (tmp_path / "o" / "notes.txt").write_text("mine")
    with pytest.raises(EatError, match="contains other files than an export"):
        export(given)
    assert (tmp_path / "o" / "notes.txt").read_text() == "mine"
    with pytest.raises(EatError, match="is a file; give a folder with --to"):
        export(ExportOptions(tmp_path / "m", tmp_path / "o" / "notes.txt"))
    with pytest.raises(EatError, match="is a file; give another folder with --to"):
        export(ExportOptions(tmp_path / "m", tmp_path / "o" / "notes.txt" / "below"))
    with pytest.raises(EatError, match="contains other files than an export"):
        export(ExportOptions(tmp_path / "m", tmp_path / "m"))


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path)
    before = sha256_of(tmp_path / "out" / MANIFEST)

    def fail(*_: Any, **__: Any) -> None:
        raise EatError("it does not run")

    monkeypatch.setattr(AdaptiveClassifier, "load", fail)
    with pytest.raises(EatError, match="it does not run"):
        export(ExportOptions(tmp_path / "model", tmp_path / "out"))
    assert sha256_of(tmp_path / "out" / MANIFEST) == before
    with pytest.raises(EatError, match="it does not run"):
        export(ExportOptions(tmp_path / "model", tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_model(tmp_path / "m", exits=[2], point=POINT)
    main(["export", str(tmp_path / "m"), "--to", str(tmp_path / "o"), "--tau", "0.8", "--max-length", "16"])
    assert "int8, confidence, tau 0.8." in capsys.readouterr().out
    assert manifest_of(tmp_path / "o")["max_length"] == 16
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "none"), "--to", str(tmp_path / "o")])
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "eat.export.folder", None)
    monkeypatch.delitem(__import__("sys").modules, "eat.export.folder")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path), "--to", "folder"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == 'error: eat export needs the extra study: pip install "eat-study[study]"\n'


@pytest.mark.parametrize(
    "arguments",
    [["export", "/nonexistent"], ["adapt", "/nonexistent", "--texts", "texts.txt"]],
    ids=lambda words: words[0],
)
def test_a_folder_that_is_not_there_is_refused_before_a_library_is_imported(
    arguments: list[str], tmp_path: Path
) -> None:
    code = """
import sys
from eat.cli import main
try:
    main(sys.argv[1:])
finally:
    print(sorted({"torch", "transformers", "onnx", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--to", "x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert done.stderr.startswith("error: /nonexistent: no such folder") and done.stderr.count("\n") == 1


# --- wrong inputs -------------------------------------------------------------------------------------------------

MODEL_FILE = "model.safetensors"
OUT = ["--to", "out"]
HUB = ["--format", "transformers"]
BAD: dict[str, tuple[list[str], str]] = {
    # the model
    "no such folder": (["none", *OUT], "none: no such folder; give a study's model folder or one of `save_pretrained`"),
    "a file": (["file", *OUT], "file: no such folder"),
    "an empty folder": (["empty", *OUT], "empty: no config.json; give a folder that `save_pretrained` wrote"),
    "an export": (["export", *OUT], "export: no config.json"),
    "a broken configuration": (["cut_config", *OUT], "config.json: not a whole JSON file"),
    "a configuration of no model": (["list", *OUT], "config.json: holds list, not a mapping of keys"),
    "an architecture of another kind": (["gpt2", *OUT], "gpt2: model_type is 'gpt2'; allowed: bert, distilbert"),
    "a model without a head": (["headless", *OUT], "its class is BertModel, which has no head for classes"),
    "a regression": (["regression", *OUT], "found problem_type 'regression'"),
    "several labels per text": (["multi", *OUT], "multi_label_classification"),
    "weights that are cut off": (["cut", *OUT], "model.safetensors: not a whole safetensors file"),
    "weights with NaN": (["nan", *OUT], "holds NaN or infinity"),
    "a pickle": (["pickle", *OUT], "pytorch_model.bin is not opened because it can run code"),
    "no tokenizer": (["mute", *OUT], "tokenizer.json: no such file"),
    "a broken tokenizer": (["cut_tokenizer", *OUT], "tokenizer.json: not a complete tokenizer"),
    "two classes of one name": (["same", *OUT], "two classes have the same name (['yes', 'yes'])"),
    "labels of another number": (["three", *OUT], "config.json names 3 labels (id2label) of a model with 2 classes"),
    "no operating point": (["bare", *OUT], "has exits after 2, 4 and no operating point; give --tau T"),
    # the options
    "no folder to write": (["m"], "the following arguments are required: --to"),
    "tau 0": (["m", *OUT, "--tau", "0"], "--tau: found 0.0; give a threshold above 0, at most 1"),
    "tau above 1": (["m", *OUT, "--tau", "1.5"], "--tau: found 1.5"),
    "tau NaN": (["m", *OUT, "--tau", "nan"], "--tau: found nan"),
    "tau of a dense model": (["stock", *OUT, "--tau", "0.9"], "a dense model of transformers; leave --tau out"),
    "no number": (["m", *OUT, "--tau", "high"], "argument --tau: invalid float value: 'high'"),
    "precision": (["m", *OUT, "--precision", "int4"], "--precision: found 'int4'; allowed: float32, int8"),
    "precision of the hub": (["m", *OUT, *HUB, "--precision", "int8"], "--format transformers is written in float32"),
    "format": (["m", *OUT, "--format", "gguf"], "--format: found 'gguf'; allowed: onnx, transformers"),
    "a short length": (["m", *OUT, "--max-length", "2"], "--max-length: found 2; give a whole number from 4 on"),
    "a long length": (["m", *OUT, "--max-length", "65"], "--max-length: found 65, but m has 64 positions"),
    "a row without a study": (["m", *OUT, "--system", "eat"], "--system and --config are for a study's model folder"),
    "an unknown option": (["m", *OUT, "--fast"], "unrecognized arguments: --fast"),
    # the folder to write
    "other content": (["m", "--to", "full"], "full: contains other files than an export"),
    "other content for the hub": (["m", "--to", "full", *HUB], "full: is not empty; give a new folder with --to"),
    "an export for the hub": (["m", "--to", "export", *HUB], "export: is not empty"),
    "its own folder": (["m", "--to", "m"], "m: contains other files than an export"),
    "its own folder for the hub": (["m", "--to", "m", *HUB], "m: is not empty"),
    "a file to write": (["m", "--to", "file"], "file: is a file; give a folder with --to"),
    "a file for the hub": (["m", "--to", "file", *HUB], "file: "),
    "below a file": (["m", "--to", "file/out"], "file is a file; give another folder with --to"),
}  # fmt: skip


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good model `m` and what is wrong in `BAD`."""
    place = tmp_path_factory.mktemp("wrong")
    saved_model(place / "m", exits=[2], point=POINT)
    saved_model(place / "bare", exits=[2])
    saved_model(place / "same", labels=["yes", "yes"])
    tiny.backbone(place / "stock")
    export(ExportOptions(place / "m", place / "export"))
    for name, labels, problem in (("regression", 1, "regression"), ("multi", 3, "multi_label_classification")):
        stock = tiny.stock(labels=labels)
        stock.config.problem_type = problem
        stock.save_pretrained(place / name)
        tiny.save_tokenizer(place / name)

    def copy(name: str, source: str = "m") -> Path:
        return Path(shutil.copytree(place / source, place / name))

    def configure(name: str, source: str = "m", **changes: Any) -> None:
        path = copy(name, source) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    configure("gpt2", model_type="gpt2")
    configure("headless", "stock", architectures=["BertModel"])
    configure("three", id2label={"0": "a", "1": "b", "2": "c"})
    (copy("list") / "config.json").write_text("[]")
    for name, file in (
        ("cut_config", "config.json"),
        ("cut_tokenizer", "tokenizer.json"),
        ("cut", "model.safetensors"),
    ):
        whole = (copy(name) / file).read_bytes()
        (place / name / file).write_bytes(whole[: len(whole) // 2])
    tensors = load_file(place / "m" / "model.safetensors")
    save_file(
        {name: torch.full_like(each, torch.nan) for name, each in tensors.items()}, copy("nan") / "model.safetensors"
    )
    (copy("pickle") / MODEL_FILE).rename(place / "pickle" / "pytorch_model.bin")
    (copy("mute") / "tokenizer.json").unlink()
    for name in ("empty", "full"):
        (place / name).mkdir()
    (place / "full" / "notes.txt").write_text("mine")
    (place / "file").write_text("mine")
    return place


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(("arguments", "reason"), BAD.values(), ids=BAD.keys())
def test_a_wrong_input_is_one_line_and_nothing_is_written(
    arguments: list[str], reason: str, wrong: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wrong)
    before = contents(wrong)
    with pytest.raises(SystemExit) as ended:
        main(["export", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith("error: ") and reason in line
    assert contents(wrong) == before


@pytest.mark.parametrize("form", [[], HUB], ids=["onnx", "transformers"])
def test_an_interrupt_leaves_nothing(
    form: list[str], wrong: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes after the weights are written, and before the folder gets its name."""
    monkeypatch.chdir(wrong)
    before = contents(wrong)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"eat.export.{'hub_folder' if form else 'folder'}.model_card", stop)
    with pytest.raises(SystemExit) as ended:
        main(["export", "m", *OUT, *form])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing was written\n"
    assert contents(wrong) == before


def without_progress(printed: str) -> list[str]:
    """The lines of stderr, without those that a slow machine shows of the progress."""
    return [line for line in printed.splitlines() if not line.startswith(("eat export: ", "exporting "))]


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], HUB], ids=["onnx", "transformers"])
def test_a_full_disk_is_one_line_and_leaves_nothing(form: list[str], wrong: Path) -> None:
    before = contents(wrong)
    most = 20_000  # a limit on the size of a file fails as a full disk does
    done = subprocess.run(
        [sys.executable, "-m", "eat.cli", "export", "m", *OUT, *form],
        cwd=wrong, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True,
        check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = without_progress(done.stderr)
    assert line.startswith("error: ") and os.strerror(errno.EFBIG) in line and "free some space" in line
    assert contents(wrong) == before


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly_after_the_folder_is_written(wrong: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "eat.cli", "export", "m", "--to", str(tmp_path / "out")],
        cwd=wrong, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert without_progress(process.stderr.read().decode()) == []
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
