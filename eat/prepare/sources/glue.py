"""The classification tasks of GLUE: a table of their properties, and readers of their files.

A folder of GLUE files has a folder for each task with `train.tsv` and `dev.tsv`: tab-separated, a header line, no
quoting, so that a quotation mark is a character of the text. Columns are found by name, in any order and
with any other columns. CoLA has no header; the files of QQP were once CSV, and cells that contain quotation marks are
still quoted; rows labelled `-` (no agreement among the annotators) have no label; a few rows of the official
QQP were broken by a line break within a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from eat.errors import DamagedFile, EatError, listed
from eat.files import digest, sha256_of
from eat.prepare.sources.texts import SourceReader, Texts
from eat.study.tasks import GlueDirSource

UNLABELLED = "-"

MOST_BROKEN = 0.001
"""The largest share of rows with a wrong number of cells; above it the file is refused."""


@dataclass(frozen=True)
class GlueTask:
    """The properties of a task of GLUE.

    folder: the folder of its files. text, label: the columns of its files. hub_text: its text columns on the hub, if
    the label column is `label`. labels: its classes in the order of their numbers, as on the hub. numbered: whether
    its files write the number of a class, not its name. header: the columns of files that have no header line.
    dev: the suffix of its dev file and dev split after `dev` and `validation`. dev_rows: the rows of the official
    dev split. csv_quoted: whether cells have the
    quoting of a CSV file. phrases: whether the training texts are sentences together with their own parts.
    """

    folder: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    dev_rows: int
    hub_text: tuple[str, ...] = ("sentence1", "sentence2")
    numbered: bool = False
    header: tuple[str, ...] = ()
    dev: str = ""
    csv_quoted: bool = False
    phrases: bool = False

    @property
    def has_pairs(self) -> bool:
        """Whether its texts are pairs."""
        return len(self.text) == 2

    def texts(
        self,
        train: pd.DataFrame,
        dev: pd.DataFrame,
        origin: dict[str, str],
        files: Mapping[str, Path],
        left_out: Counter[str],
    ) -> Texts:
        """Its text, read from these files, by name. The accuracy on a sample of the official dev text is not GLUE's."""
        official = f"{self.dev_rows} official rows"
        found = f"the {official}" if len(dev) == self.dev_rows else f"{len(dev)} rows, not the {official}"
        sha256 = digest({name: sha256_of(path) for name, path in files.items()})
        description = {**origin, "dev": found, "sha256": sha256}
        return Texts(train, list(self.labels), self.has_pairs, description, dev, self.phrases, dict(left_out))


_MNLI = GlueTask(
    "MNLI",
    ("sentence1", "sentence2"),
    "gold_label",
    ("entailment", "neutral", "contradiction"),
    dev_rows=9815,
    hub_text=("premise", "hypothesis"),
    dev="_matched",
)

GLUE: dict[str, GlueTask] = {
    "cola": GlueTask(
        "CoLA",
        ("sentence",),
        "label",
        ("unacceptable", "acceptable"),
        dev_rows=1043,
        hub_text=("sentence",),
        numbered=True,
        header=("source", "label", "star", "sentence"),
    ),
    "sst2": GlueTask(
        "SST-2",
        ("sentence",),
        "label",
        ("negative", "positive"),
        dev_rows=872,
        hub_text=("sentence",),
        numbered=True,
        phrases=True,
    ),
    "mrpc": GlueTask(
        "MRPC", ("#1 String", "#2 String"), "Quality", ("not_equivalent", "equivalent"), dev_rows=408, numbered=True
    ),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        ("not_duplicate", "duplicate"),
        dev_rows=40430,
        hub_text=("question1", "question2"),
        numbered=True,
        csv_quoted=True,
    ),
    "mnli": _MNLI,
    "mnli-mm": replace(_MNLI, dev="_mismatched", dev_rows=9832),
    "qnli": GlueTask(
        "QNLI",
        ("question", "sentence"),
        "label",
        ("entailment", "not_entailment"),
        dev_rows=5463,
        hub_text=("question", "sentence"),
    ),
    "rte": GlueTask("RTE", ("sentence1", "sentence2"), "label", ("entailment", "not_entailment"), dev_rows=277),
    "wnli": GlueTask(
        "WNLI", ("sentence1", "sentence2"), "label", ("not_entailment", "entailment"), dev_rows=71, numbered=True
    ),
}
"""By their names on the hub; `mnli-mm` is MNLI with its mismatched dev text."""


class GlueDirReader(SourceReader):
    """Reads a task from a folder of GLUE files."""

    source: GlueDirSource

    @property
    def has_pairs(self) -> bool:
        """As `SourceReader`."""
        return GLUE[self.source.task].has_pairs

    def files(self) -> list[Path]:
        """The training and the dev file. Raises `EatError` if no folder is given, or if it or a file does not exist."""
        folder, task = self.glue_dir, GLUE[self.source.task]
        if folder is None:
            raise EatError(
                f"task {self.source.task!r} of GLUE is read from a folder of files, but no folder is given; set "
                "`glue_dir`, or pass --config glue_dir=FOLDER"
            )
        names = [f"{task.folder}/train.tsv", f"{task.folder}/dev{task.dev}.tsv"]
        if not Path(folder).is_dir():
            raise EatError(
                f"{folder}: no such folder; put GLUE there ({listed(names)}), or set `glue_dir` to where it is"
            )
        missing = [name for name in names if not Path(folder, name).is_file()]
        if missing:
            found = sorted(f"{path.parent.name}/{path.name}" for path in Path(folder).glob("*/*.tsv"))
            raise EatError(
                f"{folder}: no {listed(missing)}; there are: {listed(found)}; set `glue_dir` to the folder that "
                "contains it"
            )
        return [Path(folder, name) for name in names]

    def read(self) -> Texts:
        """As `SourceReader`."""
        task = GLUE[self.source.task]
        files = {f"{path.parent.name}/{path.name}": path for path in self.files()}
        (train, train_left_out), (dev, dev_left_out) = (_read(path, task) for path in files.values())
        origin = {"kind": "glue_dir", "task": self.source.task, "files": listed(files)}
        return task.texts(train, dev, origin, files, train_left_out + dev_left_out)


def _read(path: Path, task: GlueTask) -> tuple[pd.DataFrame, Counter[str]]:
    """The labelled rows of a file, in the form of `Texts.table`, and counts of the others by reason."""
    lines = _lines(path)
    header = list(task.header) or lines[0].split("\t")
    first = 1 if task.header else 2
    absent = [column for column in (*task.text, task.label) if column not in header]
    if absent:
        raise EatError(
            f"{path}: no column {listed(map(repr, absent))}; there are: {listed(header)}; "
            f"give the file of {task.folder} as GLUE has it"
        )
    cells = [line.split("\t") for line in lines[first - 1 :]]
    if not cells:
        raise DamagedFile(f"{path}: no rows; copy it again")
    broken = [number for number, row in enumerate(cells, start=first) if len(row) != len(header)]
    if len(broken) > MOST_BROKEN * len(cells):
        raise DamagedFile(
            f"{path}: {len(broken)} of {len(cells)} rows, the first in line {broken[0]}, do not have "
            f"the {len(header)} cells of {'CoLA' if task.header else 'the header'}; copy it again"
        )
    table = pd.DataFrame([row for row in cells if len(row) == len(header)], columns=header)
    labelled = table[table[task.label] != UNLABELLED]
    left_out = Counter(unlabelled=len(table) - len(labelled), broken=len(broken))
    return _as_texts(path, task, labelled), +left_out  # without zeros


def _lines(path: Path) -> list[str]:
    """The lines of a file; only a line feed ends a line, since a text may contain other separators of Unicode."""
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    return [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")]


def _as_texts(path: Path, task: GlueTask, rows: pd.DataFrame) -> pd.DataFrame:
    remedy = "put the cells under the columns that the header names"
    codes = [str(number) for number in range(len(task.labels))] if task.numbered else list(task.labels)
    foreign = rows.loc[~rows[task.label].isin(codes), task.label]
    if len(foreign):
        raise EatError(
            f"{path}: column {task.label!r} holds {foreign.iloc[0][:40]!r} ({len(foreign)} of {len(rows)} rows are "
            f"none of: {listed(codes)}); {remedy}"
        )
    table = pd.DataFrame()
    for name, column in zip(("text", "text_b"), task.text, strict=False):
        if rows[column].str.fullmatch(r"[\d.]+").all():
            raise EatError(f"{path}: column {column!r} contains only numbers, not text; {remedy}")
        table[name] = unquoted(rows[column].tolist()) if task.csv_quoted else rows[column]
    table["label"] = rows[task.label].map({code: number for number, code in enumerate(codes)}).astype("int64")
    return table.reset_index(drop=True)


def unquoted(cells: Sequence[str]) -> list[str]:
    """Cells without the quoting of a CSV file, if they are quoted: `"a ""b"" c"` is `a "b" c`."""
    return [
        cell[1:-1].replace('""', '"')
        if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")
        else cell
        for cell in cells
    ]
