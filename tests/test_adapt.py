"""`eat adapt`: what it writes, that its promise is about the file as written, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from exported import saved_model
from hub_cache import snapshot

from eat.adapt import adapt as command
from eat.adapt.adapt import adapt
from eat.adapt.options import SHARES, AdaptOptions
from eat.adapt.texts import read_texts
from eat.cli import main
from eat.errors import EatError
from eat.export.stock import load_stock
from eat.model.batch import PackedBatch
from eat.model.tokenizer import encode, load_tokenizer
from eat.prepare.splits import text_digest
from eat.runtime import AdaptiveClassifier

EASY = {"disagreement": 0.06, "confidence": 0.9}
"""A promise that heads on a random model can keep."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,300 different texts, one per line."""
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(sorted(set(tiny.table(2400)["text"]))[:2300]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock classifier with random weights."""
    folder = tmp_path_factory.mktemp("model")
    tiny.stock("bert").save_pretrained(folder)
    tiny.save_tokenizer(folder)
    return folder


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps and few timed calls."""
    monkeypatch.setattr("eat.adapt.teaching.STEPS", 1)
    monkeypatch.setattr("eat.adapt.timing.REPEATS", 1)
    monkeypatch.setattr("eat.adapt.timing.MOST_TEXTS", 30)


def adapted(model: Path | str, texts: Path, to: Path, **options: Any) -> str:
    return adapt(AdaptOptions(str(model), texts, to, **{**EASY, **options}))


def classes_of(folder: Path, texts: Sequence[str]) -> list[int]:
    """What the given model answers, in float32."""
    encoded = encode(load_tokenizer(folder), texts, None, 64)
    with torch.inference_mode():
        return [int(load_stock(folder).encoder(PackedBatch.of([text])).logits.argmax()) for text in encoded]


@pytest.mark.slow
def test_the_promise_is_about_the_file_as_written(model: Path, texts: Path, tmp_path: Path) -> None:
    printed = adapted(model, texts, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["exits"][-1] == 4 and manifest["operating_point"]["origin"] == "adapted"
    promised = manifest["promised"]
    assert (promised["risk"], promised["epsilon"], promised["delta"]) == ("disagreement", 0.06, 0.1)
    assert promised["tau"] == manifest["operating_point"]["tau"]
    assert manifest["accuracy"] is None
    assert not (tmp_path / "out.partial").exists()
    # the texts that are shown: the file and the given model disagree on as many as stated
    divided = read_texts(AdaptOptions(str(model), texts, tmp_path / "other"))
    shown = [divided.first[row] for row in divided.rows["show"]]
    answers = AdaptiveClassifier.load(tmp_path / "out")(shown)
    labels = list(manifest["labels"])
    differing = sum(
        labels.index(answer.label) != given for answer, given in zip(answers, classes_of(model, shown), strict=True)
    )
    seen = manifest["adapted"]["shown"]
    assert (seen["n"], seen["differing"]) == (len(shown), differing)
    assert seen["mean_depth"] == pytest.approx(np.mean([answer.depth for answer in answers]))
    assert 1 < seen["mean_depth"] < 4, "this test does not exit early"
    assert f"{differing} ({100 * differing / len(shown):.1f} %)" in printed
    assert "at most 6 % are answered differently" in printed
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Promised, with a confidence of 0.9" in card and "No study measured" not in card


@pytest.mark.slow
def test_full_depth_is_the_given_model(model: Path, texts: Path, tmp_path: Path) -> None:
    adapted(model, texts, tmp_path / "out", precision="float32")
    some = texts.read_text().splitlines()[:50]
    answers = AdaptiveClassifier.load(tmp_path / "out", tau=1.0)(some)
    names = json.loads((tmp_path / "out" / "manifest.json").read_text())["labels"]
    assert [names.index(answer.label) for answer in answers] == classes_of(model, some)


@pytest.mark.slow
def test_a_gpu_that_is_there_is_not_taken(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted(model, texts, tmp_path / "out")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    adapted(model, texts, tmp_path / "beside")
    assert (tmp_path / "beside" / "model.onnx").read_bytes() == (tmp_path / "out" / "model.onnx").read_bytes()


def test_texts_are_divided_by_their_words_alone(texts: Path, tmp_path: Path) -> None:
    def parts(path: Path) -> dict[str, str]:
        found = read_texts(AdaptOptions("model", path, tmp_path / "out"))
        return {found.first[row]: part for part, rows in found.rows.items() for row in rows}

    lines = texts.read_text().splitlines()
    other = tmp_path / "other.txt"
    other.write_text("\n".join([*reversed(lines), "", lines[0].upper(), "  "]), encoding="utf-8")
    assert parts(other) == parts(texts)
    counts = {part: list(parts(texts).values()).count(part) for part in SHARES}
    assert sum(counts.values()) == len({text_digest(line) for line in lines})
    for part, share in SHARES.items():
        assert abs(counts[part] / len(lines) - share) < 0.04


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    adapted(model, texts, whole)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "compare_speed", stop)
        with pytest.raises(KeyboardInterrupt):
            adapted(model, texts, tmp_path / "out")
    assert (tmp_path / "out.partial" / "heads.safetensors").is_file() and not (tmp_path / "out").exists()
    with monkeypatch.context() as patch:
        patch.setattr("eat.finetune.frozen_heads.vectors_and_logits", stop)
        patch.setattr("eat.adapt.teaching.train_heads", stop)
        adapted(model, texts, tmp_path / "out")
    assert "going on with" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()
    # another run does not use the state of this one
    with monkeypatch.context() as patch:
        patch.setattr(command, "compare_speed", stop)
        for seed in (0, 1):
            with pytest.raises(KeyboardInterrupt):
                adapted(model, texts, tmp_path / "third", seed=seed)
    assert "going on with" not in capsys.readouterr().out


def test_a_promise_that_cannot_be_kept_gives_the_dense_model(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_full_depth", lambda given, some: np.full(len(some), -1))
    printed = adapted(model, texts, tmp_path / "out")
    warning = capsys.readouterr().err
    assert (
        "cannot be promised: at full depth int8 alone differs on" in warning and "Give --precision float32" in warning
    )
    assert "No promise" in printed
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["promised"] is None
    [answer] = AdaptiveClassifier.load(tmp_path / "out")(["a b"])
    assert (answer.depth, answer.exit_reason) == (4, "last_layer")


@pytest.mark.slow
def test_pairs(texts: Path, tmp_path: Path) -> None:
    saved_model(tmp_path / "model")
    table = tiny.table(2300, pairs=True)
    table.to_csv(tmp_path / "pairs.csv", index=False)
    adapted(tmp_path / "model", tmp_path / "pairs.csv", tmp_path / "out", columns=["text", "text_b"])
    [answer] = AdaptiveClassifier.load(tmp_path / "out")([(table["text"][0], table["text_b"][0])])
    assert 1 <= answer.depth <= 4


@pytest.mark.slow
def test_a_model_of_the_hub(model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    folder = snapshot(tmp_path / "hf", "model", "someone/reviews", commit)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(model)
    (folder.parent.parent / "refs").mkdir()
    (folder.parent.parent / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "someone/reviews in float32" in adapted("someone/reviews", texts, tmp_path / "out")
    with pytest.raises(EatError, match="someone/other: no such folder, not in the hub's cache, and the hub cannot"):
        adapted("someone/other", texts, tmp_path / "out2")


# --- what is refused ----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[list[str], str]] = {
    "no model": (["missing", "--texts", "t.txt"], "missing: no such folder; give one that"),
    "no file": (["model", "--texts", "none.txt"], "none.txt: no such file"),
    "few texts": (
        ["model", "--texts", "few.txt"],
        "few.txt: 3 different texts (5 rows read); at least 2000 are needed",
    ),
    "small promise": (["model", "--texts", "t.txt", "--disagreement", "0.0001"], "at least 99853 are needed"),
    "which column": (["model", "--texts", "two.csv"], "several columns (a, b); name one with --text"),
    "no column": (["model", "--texts", "two.csv", "--text", "c"], "no column 'c'; there are: a, b"),
    "one column twice": (["model", "--texts", "two.csv", "--text", "a", "--text", "a"], "--text: found 'a' twice"),
    "three columns": (["model", "--texts", "t.txt", *["--text", "1", "--text", "2", "--text", "3"]], "found 3 columns"),
    "share": (["model", "--texts", "t.txt", "--disagreement", "2"], "--disagreement: found 2.0; give a share above 0"),
    "confidence": (["model", "--texts", "t.txt", "--confidence", "0"], "--confidence: found 0.0; give a share above 0"),
    "precision": (["model", "--texts", "t.txt", "--precision", "int4"], "'int4'; allowed: float32, int8"),
    "engine": (["model", "--texts", "t.txt", "--engine", "torch"], "--engine: found 'torch'; allowed: onnx"),
    "length": (["model", "--texts", "t.txt", "--max-length", "1000"], "found 1000, but model has 64 positions"),
    "regression": (["regression", "--texts", "t.txt"], "regression"),
    "several labels": (["multi", "--texts", "t.txt"], "multi_label_classification"),
    "other files": (["model", "--texts", "t.txt", "--to", "full"], "full: contains other files than an export"),
    "a folder": (["model", "--texts", "model"], "is not one of .csv, .tsv, .parquet, .jsonl, .txt"),
    "encoding": (["model", "--texts", "t.txt", "--encoding", "utf-7000"], "encoding 'utf-7000' is unknown"),
    "delimiter": (["model", "--texts", "t.txt", "--delimiter", "ab"], "delimiter: found 'ab'"),
    "revision": (["model", "--texts", "t.txt", "--revision", "main"], "--revision: model is a local folder"),
    "an empty file": (["model", "--texts", "empty.txt"], "empty.txt: an empty file; give a file with text in it"),
    "not UTF-8": (["model", "--texts", "latin.txt"], "latin.txt: not UTF-8 text"),
    "ragged rows": (["model", "--texts", "ragged.csv", "--text", "a"], "ragged.csv: not a whole CSV file (line 3:"),
    "another kind of model": (["gpt2", "--texts", "t.txt"], "gpt2: model_type is 'gpt2'; allowed: bert, distilbert"),
    "weights that are cut off": (["cut", "--texts", "t.txt"], "model.safetensors: not a whole safetensors file"),
    "an export": (["export", "--texts", "t.txt"], "export: no config.json"),
    "a file to write": (["model", "--texts", "t.txt", "--to", "two.csv"], "two.csv: is a file; give a folder"),
}


@pytest.fixture(scope="module")
def place(model: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "model").symlink_to(model)
    (folder / "t.txt").symlink_to(texts)
    (folder / "few.txt").write_text("one\ntwo\n\nthree\nTWO\n")
    (folder / "two.csv").write_text("a,b\nx,y\n")
    (folder / "full").mkdir()
    (folder / "full" / "notes").write_text("mine")
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes("\n".join(f"größe {number}" for number in range(50)).encode("cp1252"))
    (folder / "ragged.csv").write_text("a,b\nx,y\nx,y,z\n")
    for name in ("gpt2", "cut"):
        shutil.copytree(model, folder / name)
    config = json.loads((model / "config.json").read_text())
    (folder / "gpt2" / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    (folder / "cut" / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    (folder / "export").mkdir()
    (folder / "export" / "manifest.json").write_text("{}")
    for name, labels, problem in (("regression", 1, "regression"), ("multi", 3, "multi_label_classification")):
        stock = tiny.stock("bert", labels)
        stock.config.problem_type = problem
        stock.save_pretrained(folder / name)
        tiny.save_tokenizer(folder / name)
    return folder


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_before_any_work(
    arguments: list[str], reason: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    to = [] if "--to" in arguments else ["--to", "out"]
    with pytest.raises(SystemExit) as ended:
        main(["adapt", *arguments, *to])
    error = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 1 and len(error) == 1 and error[0].startswith("error: ")
    assert reason in error[0]
    assert sorted(place.rglob("*")) == before


@pytest.mark.slow
def test_an_interrupt_is_one_line_that_says_how_to_go_on(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["adapt", str(model), "--texts", str(texts), "--to", str(tmp_path / "out")]
    arguments += ["--disagreement", "0.06", "--confidence", "0.9"]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(command, "compare_speed", stop)
        main(arguments)
    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted; the same command goes on"
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    main(arguments)
    assert "going on with" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_line(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SystemExit) as ended:
        main(["adapt", str(model), "--texts", str(texts), "--to", str(tmp_path / "out")])
    assert ended.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"error: {os.strerror(errno.ENOSPC)}; free some space and give the command again"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
