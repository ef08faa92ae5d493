"""`eat export --format transformers`: the folder, its model card, and the way to a hub and back.

The hub is one of this machine (`local_hub`), and the client is the official one.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from exported import saved_model
from exported_rows import LABELS, model_folder, write_results
from local_hub import local_hub
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from eat.cli import main
from eat.errors import DamagedFile, EatError
from eat.export.folder import export
from eat.export.source import ExportOptions, find_source
from eat.model.batch import PackedBatch
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.tokenizer import encode
from eat.study.paths import StudyPaths

TEXTS = [row["text"] for row in tiny.table(20).to_dict("records")]
FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
POINT = {"rule": ["confidence"], "tau": 0.7, "temperatures": {2: 0.5, 4: 1.5}}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a small study in a project's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write_results()


def options(trained: str = "eat", /, **given: Any) -> ExportOptions:
    return ExportOptions(model_folder(trained), Path("out"), "float32", **given, format="transformers")


def card_of(folder: Path = Path("out")) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a model card."""
    _, metadata, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(metadata), text


# --- the folder ---------------------------------------------------------------------------------------------------


def test_a_study_s_row_is_written_at_its_operating_point(results: Path) -> None:
    export(options())
    assert sorted(path.name for path in Path("out").iterdir()) == FILES
    model = AutoModelForSequenceClassification.from_pretrained("out")
    assert isinstance(model, EatForSequenceClassification)
    # the threshold that the study chose, and the temperatures that it fitted
    assert model.policy == ExitPolicy(("confidence",), 0.6, {2: 0.8, 4: 1.4})
    assert list(model.config.id2label.values()) == LABELS
    source = find_source(options())
    batch = PackedBatch.of(encode(tiny.tokenizer(), TEXTS, None, 32))
    with torch.inference_mode():
        expected = source.model.run(batch, source.policy)
        found = model.run(batch, model.policy)
    assert torch.equal(found.logits, expected.logits) and found.depth == expected.depth
    assert len(set(found.depth)) > 1
    # texts are cut as in the study
    tokenizer = AutoTokenizer.from_pretrained("out")
    assert tokenizer.model_max_length == 32
    assert len(tokenizer(" ".join(tiny.NEUTRAL), truncation=True)["input_ids"]) == 32


def test_a_row_with_other_parts_and_one_without_exits(results: Path) -> None:
    export(options(system="eat-wide"))
    model = AutoModelForSequenceClassification.from_pretrained("out")
    assert model.config.reducer["kind"] == "none" and model.config.attention["kind"] == "dense"
    export(ExportOptions(model_folder("dense"), Path("dense"), "float32", format="transformers"))
    assert not AutoModelForSequenceClassification.from_pretrained("dense").policy.may_exit
    assert "every text runs through all layers" in card_of(Path("dense"))[1]


def test_what_is_refused_leaves_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EatError, match="a cascade is several models, and transformers loads one"):
        export(options("dense", system="both"))
    with pytest.raises(EatError, match=r"--precision: found 'int8'; --format transformers is written in float32"):
        ExportOptions(model_folder(), Path("out"), "int8", format="transformers")
    with pytest.raises(EatError, match=r"--format: found 'pickle'; allowed: onnx, transformers"):
        ExportOptions(model_folder(), Path("out"), format="pickle")
    with pytest.raises(EatError, match="eat: is not empty; give a new folder with --to, or delete it"):
        export(ExportOptions(model_folder(), model_folder("eat").parents[1], "float32", format="transformers"))
    with pytest.raises(EatError, match=r"config/tiny\.yaml is a file"):
        export(ExportOptions(model_folder(), Path("config/tiny.yaml/out"), "float32", format="transformers"))
    with monkeypatch.context() as patch:
        patch.setattr("eat.export.hub_folder._answers_alike", lambda *_: False)
        with pytest.raises(EatError, match="out: the saved model answers otherwise"):
            export(options())
    table = StudyPaths("tiny").summary
    table.write_text(table.read_text().replace("mcnemar_p", "other"))
    with pytest.raises(DamagedFile, match=r"summary\.csv: lacks the column mcnemar_p"):
        export(options())
    assert sorted(path.name for path in Path().iterdir()) == ["config", "data", "results"]


# --- the card -----------------------------------------------------------------------------------------------------


def test_the_card_of_a_study_s_row(results: Path) -> None:
    export(options())
    metadata, text = card_of()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("transformers", "text-classification")
    (index,) = metadata["model-index"]
    assert index["results"][0]["dataset"] == {"name": "tiny", "type": "tiny", "split": "dev"}
    assert index["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.8, "name": "accuracy [65.2, 89.5]"}]
    headings = re.findall("^#+ (.*)$", text, re.MULTILINE)
    assert headings == [
        "tiny eat", "How to use it", "Task", "What was measured", "Operating points", "Intended use", "Limits",
    ]  # fmt: skip
    for line in (
        "* Operating point: confidence, threshold 0.6 (chosen by the study)",
        "* tiny, of the study tiny",
        "* Texts: 1,200 train, 40 calibration, 40 dev; thresholds and temperatures come from calibration",
        "* Labels of the training texts: negative 500, positive 700",
        "* Accuracy on dev: 80.0 % [65.2, 89.5] of 40 texts; 2.50 layers per text",
        "* Speed: not measured in this form",
        "Times are of the study's engine `torch`",
    ):
        assert line in text
    table = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    rows = {(row[0].strip(), row[1].strip()): row for row in table[2:]}
    assert list(rows) == [("dense", "–"), ("▹ eat", "0.60"), ("eat", "0.90"), ("hf-dense", "–")]  # noqa: RUF001
    assert rows["▹ eat", "0.60"][2].strip() == "80.0 [65.0, 91.0]"
    code = text.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 10


def test_the_card_says_what_was_not_measured(results: Path) -> None:
    export(options(tau=0.5))
    assert "* Nothing at this operating point, which is none of the study's" in card_of()[1]
    assert "model-index" not in card_of()[0]
    # a row that ran in int8 is not what stands in this folder
    export(ExportOptions(model_folder(), Path("int8"), "float32", system="eat-onnx", format="transformers"))
    text = card_of(Path("int8"))[1]
    assert "The study ran it in int8 with the engine onnx; a row with `precision: float32` measures" in text
    assert "Operating points" not in text
    # no results yet but the point
    StudyPaths("tiny").summary.unlink()
    StudyPaths("tiny").card("tiny").unlink()
    export(ExportOptions(model_folder(), Path("early"), "float32", format="transformers"))
    text = card_of(Path("early"))[1]
    assert "Operating points" not in text and "* tiny, of the study tiny\n\n" in text and "80.0 %" in text


def test_the_card_of_a_model_without_a_study(tmp_path: Path) -> None:
    saved_model(tmp_path / "m", exits=[2], point=POINT)
    export(ExportOptions(tmp_path / "m", tmp_path / "out", "float32", format="transformers"))
    metadata, text = card_of(tmp_path / "out")
    assert "model-index" not in metadata
    assert "No study measured this model" in text and "Measure it on texts of your own" in text
    assert "## Task" not in text


def test_the_code_of_the_card_runs_as_it_stands(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(options())
    code = card_of()[1].partition("```python\n")[2].partition("```")[0]
    assert 'model="owner/name"' in code
    (tmp_path / "code.py").write_text(code.replace("owner/name", str(Path("out").absolute())))
    runpy.run_path(str(tmp_path / "code.py"))
    one, two = capsys.readouterr().out.splitlines()
    assert one.startswith("[{'label': ") and two.startswith("[[{'label': ")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_model(tmp_path / "m", exits=[2], point=POINT)
    main(["export", str(tmp_path / "m"), "--to", str(tmp_path / "out"), "--format", "transformers", "--tau", "0.8"])
    assert capsys.readouterr().out.endswith(" MiB, float32, confidence, tau 0.8.\n")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["operating_point"]["tau"] == 0.8
    assert config["operating_point"]["temperatures"] == {"2": 0.5, "4": 1.5}


# --- the hub ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `eat export --format transformers` writes it."""
    place = tmp_path_factory.mktemp("hub")
    saved_model(place / "m", exits=[1, 2, 3], point={"rule": ["confidence"], "tau": 0.8})
    export(ExportOptions(place / "m", place / "out", "float32", format="transformers"))
    return place / "out"


def answers_of(folder: Path) -> Any:
    """What a model answers, and its operating point, as `CLIENT` prints them."""
    classify = pipeline("text-classification", model=str(folder))
    return [classify(TEXTS, batch_size=4), classify.model.config.operating_point]


CLIENT = """
import json, sys
import eat.model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

folder, copy, *texts = sys.argv[1:]

def read(name):
    classify = pipeline("text-classification", model=name)
    print(json.dumps([classify(texts, batch_size=4), classify.model.config.operating_point]))

read("someone/uploaded")
model = AutoModelForSequenceClassification.from_pretrained(folder)
model.push_to_hub("someone/films", commit_message="The first", tags=["films"])
AutoTokenizer.from_pretrained(folder).push_to_hub("someone/films")
model.push_to_hub("someone/films", revision="trial")
model.push_to_hub("someone/shards", max_shard_size="20KB")
read("someone/films")
model.set_operating_point(["confidence"], tau=0.9)
model.push_to_hub("someone/changed")
model.save_pretrained(copy, push_to_hub=True, repo_id="someone/saved")
"""


@pytest.mark.slow
def test_a_model_goes_to_the_hub_with_its_card_and_comes_back(folder: Path, tmp_path: Path) -> None:
    with local_hub() as hub:

        def client(*command: str) -> subprocess.CompletedProcess[str]:
            environment = hub.environment(tmp_path / "home")
            done = subprocess.run(
                command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
            )
            assert done.returncode == 0, done.stderr
            return done

        # the folder as a whole, in one commit
        client(str(Path(sys.executable).with_name("hf")), "upload", "someone/uploaded", str(folder), ".")
        assert [(repository, paths) for repository, _, _, paths in hub.commits] == [("someone/uploaded", FILES)]
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert hub.repositories["someone/uploaded"]["main"] == files

        done = client(sys.executable, "-c", CLIENT, str(folder), str(tmp_path / "copy"), *TEXTS)
        answers, point = answers_of(folder)
        for found, its_point in map(json.loads, done.stdout.splitlines()):
            assert its_point == point
            assert [one["label"] for one in found] == [one["label"] for one in answers]
            # another number of threads rounds differently
            assert [one["score"] for one in found] == pytest.approx([one["score"] for one in answers], abs=1e-5)
        assert len(done.stdout.splitlines()) == 2
        model, tokenizer = ["README.md", "config.json", "model.safetensors"], FILES[3:]
        assert [(repository, branch, paths) for repository, branch, _, paths in hub.commits][1:4] == [
            ("someone/films", "main", model),
            ("someone/films", "main", ["README.md", *tokenizer]),
            ("someone/films", "trial", model),
        ]
        assert hub.commits[1][2] == "The first"

        def card(repository: str) -> tuple[dict[str, Any], str]:
            _, metadata, text = hub.repositories[repository]["main"]["README.md"].decode().split("---\n", 2)
            return yaml.safe_load(metadata), text.strip()

        # the card of the folder with the tags of the call, which the tokenizer's commit keeps
        metadata, text = card_of(folder)
        assert card("someone/films") == (metadata | {"tags": [*metadata["tags"], "films"]}, text.strip())
        # in several files it is the same model
        assert len([name for name in hub.repositories["someone/shards"]["main"] if name.endswith(".safetensors")]) > 1
        assert card("someone/shards") == (metadata, text.strip())
        # a model that is no longer the one of the card does not take it along
        for repository in ("someone/changed", "someone/saved"):
            assert card(repository)[0]["library_name"] == "transformers"
            assert "## Limits" not in card(repository)[1]
        warning = f"warning: {folder / 'README.md'} is not uploaded: the model is no longer the one that it describes"
        assert done.stderr.splitlines().count(warning) == 2
