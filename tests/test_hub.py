"""GLUE and weights from the hub's cache without a network, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import tiny
from glue_folder import write_glue
from hub_cache import put_model, put_task, snapshot

from eat.errors import DamagedFile, EatError
from eat.prepare.backbones import fetch_backbone
from eat.prepare.sources.glue import GLUE
from eat.prepare.sources.registry import reader_of
from eat.study.backbones import HubBackbone
from eat.study.tasks import GlueDirSource, HubSource

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache. `tests/conftest.py` keeps the hub's client from the network."""
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def on_hub(task: str) -> HubSource:
    return HubSource.model_validate({"kind": "hub", "task": task, "revision": REVISION})


def refusal(source: HubSource) -> str:
    with pytest.raises(EatError) as caught:
        reader_of(source).read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("task", GLUE)
def test_the_hub_gives_what_a_folder_of_files_gives(task: str, home: Path) -> None:
    glue = write_glue(home / "GLUE", examples=12)
    in_folder = reader_of(GlueDirSource.model_validate({"kind": "glue_dir", "task": task}), str(glue)).read()
    put_task(home, on_hub(task), in_folder)
    fetched = reader_of(on_hub(task)).read()
    assert fetched.table.equals(in_folder.table)
    assert in_folder.dev is not None and in_folder.dev.equals(fetched.dev)
    assert (fetched.labels, fetched.pair, fetched.phrases) == (in_folder.labels, in_folder.pair, in_folder.phrases)
    assert fetched.description["revision"] == REVISION


def test_the_csv_quoting_of_qqp_is_taken_off_here_too(home: Path) -> None:
    glue = write_glue(home / "GLUE", examples=12)
    texts = reader_of(GlueDirSource(kind="glue_dir", task="qqp"), str(glue)).read()
    as_stored = texts.table.assign(text='"' + texts.table["text"].str.replace('"', '""') + '"')
    put_task(home, on_hub("qqp"), type(texts)(as_stored, texts.labels, True, {}, dev=texts.dev))
    assert reader_of(on_hub("qqp")).read().table.equals(texts.table)


def test_without_network_and_cache_one_line_says_what_to_do(home: Path) -> None:
    assert refusal(on_hub("sst2")) == (
        "nyu-mll/glue: sst2/train-00000-of-00001.parquet of commit 0123456789ab: not in the hub's cache, and "
        "HF_HUB_OFFLINE is set; run this step once with a network, or give a folder instead "
        "(kind: glue_dir, kind: folder)"
    )


def test_without_network_the_line_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "not in the hub's cache, and the hub cannot be reached; run" in refusal(on_hub("sst2"))


def test_other_labels_or_columns_are_refused(home: Path) -> None:
    glue = write_glue(home / "GLUE", examples=12)
    texts = reader_of(GlueDirSource(kind="glue_dir", task="rte"), str(glue)).read()
    put_task(home, on_hub("rte"), texts)  # the columns of RTE and WNLI are the same, their classes are not
    files = snapshot(home, "dataset", "nyu-mll/glue", REVISION)
    (files / "rte").rename(files / "wnli")
    assert "its labels are entailment, not_entailment, not not_entailment, entailment" in refusal(on_hub("wnli"))
    (files / "wnli").rename(files / "cola")
    assert "no column sentence; there are: sentence1, sentence2, label, idx" in refusal(on_hub("cola"))


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    tiny.backbone(tmp_path / "bert")
    return tmp_path / "bert"


BERT = HubBackbone(kind="hub", name="someone/tiny-bert", revision=REVISION)


def test_weights_come_from_the_cache_and_only_what_is_needed(home: Path, bert_folder: Path) -> None:
    (bert_folder / "pytorch_model.bin").write_bytes(b"never opened")
    put_model(home, BERT, bert_folder)
    fetch_backbone(BERT, home / "backbone")
    names = {path.name for path in (home / "backbone").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert (home / "backbone" / "model.safetensors").read_bytes() == (bert_folder / "model.safetensors").read_bytes()


def test_weights_that_are_cut_off_are_refused_and_leave_nothing(home: Path, bert_folder: Path) -> None:
    weights = bert_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    put_model(home, BERT, bert_folder)
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        fetch_backbone(BERT, home / "backbone")
    assert not (home / "backbone").exists()


def test_weights_that_are_not_cached_are_named(home: Path) -> None:
    with pytest.raises(EatError, match=r"someone/tiny-bert: config\.json of commit 0123456789ab: not in the hub's"):
        fetch_backbone(BERT, home / "backbone")
    assert not (home / "backbone").exists()
