"""`eat export`: what is exported of which folder, and what is refused before anything is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import tiny
import torch
import yaml
from exported import LABELS, exported, saved_model

from eat.cli import main
from eat.engines.packed import PackedModel
from eat.errors import DamagedFile, EatError, listed
from eat.export.folder import export
from eat.export.source import ExportOptions, find_source
from eat.files import sha256_of, write_json, write_table
from eat.model.checkpoints import STOCK
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import encode
from eat.runtime import AdaptiveClassifier
from eat.runtime.manifest import FORMAT, MANIFEST, MODEL, TOKENIZER
from eat.study.loading import load_study
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

CONFIDENT = {"after": [2], "rule": ["confidence"], "tau": [0.6, 0.9]}
ROWS: dict[str, Any] = {
    "eat-onnx": {"weights_of": "eat", "engine": "onnx", "precision": "int8"},
    "eat-wide": {"weights_of": "eat", "reducer": {"kind": "none"}, "attention": {"kind": "dense"}},
    "eat-safe": {
        "weights_of": "eat",
        "exits": {"rule": ["risk_controlled"], "tau": [0.6, 0.9], "promise": {"epsilon": 0.05}},
    },
    "both": {"cascade": ["dense", "other"], "exits": {**CONFIDENT, "after": [4]}},
    "other": {"backbone": "tiny", "last_head": "bert", "recipe": [{"epochs": 1}]},
}
TEMPERATURES = {"dense": {4: 1.1}, "other": {4: 1.2}, "both": {4: 0.9, 8: 1.3}}
PROMISE = {"risk": "disagreement", "epsilon": 0.05, "delta": 0.1, "n": 80, "tau": 0.75, "tested": []}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with the results of a small study, and a function of paths within."""
    monkeypatch.chdir(tmp_path)
    plain = tiny.study().plain()
    # a row with `weights_of` is completed from the row that it names
    study = load_study({**plain, "systems": {**plain["systems"], **ROWS}})
    Path("config").mkdir()
    Path("config/tiny.yaml").write_text(yaml.safe_dump(study.plain()))
    Path("config/another.yaml").write_text(yaml.safe_dump({**study.plain(), "study": "another"}))
    paths = StudyPaths("tiny")
    window = {"kind": "window", "left": 3, "right": 2}
    for name, parts in {
        "dense": {"last_head": "bert"},
        "other": {"last_head": "bert", "seed": 1},
        "eat": {"exits": [2], "reducer": {"kind": "norm", "after": [1, 3], "ratio": 0.3}, "attention": window},
    }.items():
        saved_model(paths.model("tiny", name, 1, "finetune"), **parts)
    points, summary = [], []
    for name in study.systems:
        calibration = {"temperatures": TEMPERATURES.get(name, {2: 0.8, 4: 1.4})}
        calibration |= {"promise": PROMISE} if name == "eat-safe" else {}
        write_json(paths.calibration("tiny", name, 1), calibration)
        taus = [None] if name in ("dense", "other", "eat-safe") else [0.6, 0.9]
        for tau in taus:
            point = {"task": "tiny", "system": name, "tau": tau, "chosen": tau != 0.9}
            for seed, split in [(1, "calibration"), (1, "dev"), (2, "dev")]:
                accuracy = 0.8 + 0.05 * (tau == 0.9) - 0.1 * (seed == 2)
                points.append({**point, "seed": seed, "split": split, "n": 40, "accuracy": accuracy, "avg_depth": 2.5})
            for batch_size in (1, 32):
                speed = {"latency_ms_p50": 2.0, "examples_per_s": None if batch_size == 1 else 400.0}
                ratio = {"speedup_vs_dense": 1.5, "speedup_low": 1.4, "speedup_high": 1.6}
                setting = {"batch_size": batch_size, "device": "cpu", "threads": 2, "n_timed": 16}
                summary.append({**point, **setting, **speed, **ratio})
    write_table(paths.operating_points("tiny"), pd.DataFrame(points))
    write_table(paths.summary, pd.DataFrame(summary))
    write_json(paths.timing_state("tiny"), {"machine": {"cpu": "A CPU"}, "date": "2026-01-31", "busy": False})
    return tmp_path / "results" / "tiny"


def model_folder(system: str = "eat") -> Path:
    return StudyPaths("tiny").model("tiny", system, 1, "finetune")


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
    assert "Accuracy on dev: 80.0 % of 40 texts" in card
    assert "1.50 times as fast" in card

    # another threshold of the study, and one that it does not have
    export(options(precision="int8", system="eat-onnx", tau=0.9))
    assert manifest_of(Path("out"))["accuracy"]["accuracy"] == pytest.approx(0.85)
    export(options(precision="int8", system="eat-onnx", tau=0.5))
    assert manifest_of(Path("out"))["accuracy"] is None


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
