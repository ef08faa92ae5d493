"""The section `tasks` of a study: where text comes from, how it is split, and how much of it is used."""

from __future__ import annotations

from os.path import normpath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from eat.errors import listed
from eat.validation import Distinct, Fraction, Grown, Name, NonNegative, OutsidePath, Positive, Strict, Title

PackagedName = Literal["rotten_tomatoes", "imdb", "bbc_news"]
"""The packages of text; each is pinned."""


class TextSource(Strict):
    """The base of the options of all sources."""

    @property
    def has_dev(self) -> bool:
        """Whether the text includes dev text."""
        return False


class PackagedSource(TextSource):
    """Labelled text that comes inside a pinned PyPI package; its sha256 is checked."""

    kind: Literal["packaged"]
    name: PackagedName


def _name_of_number(column: Any) -> Any:
    return str(column) if type(column) is int else column


Column = Annotated[str, BeforeValidator(_name_of_number)]
"""A column of a file: its name, its number from 1, or a dotted path into nested objects."""


class FileFormat(Strict):
    """What a file of texts looks like. Only a delimited file has a delimiter, quotation marks and a header."""

    encoding: str = Field("utf-8", min_length=1, description="The encoding of its text, such as utf-8 or latin-1.")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="The separator of cells. Default: a comma; in .tsv files a tab."
    )
    quote: str = Field(
        '"',
        pattern=r"^(.|none)$",
        description="The quotation mark around cells, or none if quotation marks are ordinary text.",
    )
    header: Literal["first_line", "none"] = Field(
        "first_line", description="Whether the first line names the columns; if not, they are numbered from 1."
    )


class FileSource(TextSource, FileFormat, Grown):
    """A file of the user: CSV, TSV, Parquet or JSONL with one or two text columns and a label column.

    A column is given by its name, its number from 1, or a dotted path into nested JSON.
    """

    added: ClassVar[frozenset[str]] = frozenset({"dev_path"})

    kind: Literal["file"]
    path: OutsidePath = Field(description="The file, relative to the folder the command runs in.")
    dev_path: OutsidePath | None = Field(
        None,
        description="A second file of the same form, such as an official test set: its texts are the dev texts, and "
        "`path` is only for training and calibration. Default: dev texts are held out of `path`.",
    )
    text: list[Column] = Field(min_length=1, max_length=2, description="One text column, or the two of a pair.")
    label: Column = Field(description="The label column.")
    labels: Distinct[str] | None = Field(
        default=None, min_length=2, description="The labels in order. Default: all labels of the file, sorted."
    )

    @property
    def has_dev(self) -> bool:
        """As `TextSource`."""
        return self.dev_path is not None

    @model_validator(mode="after")
    def _differs_from_its_dev_file(self) -> Self:
        if self.dev_path is not None and normpath(self.dev_path) == normpath(self.path):
            raise ValueError(
                f"dev_path: found {self.dev_path!r}, which is also path; give another file, or omit dev_path to hold "
                "dev texts out of path"
            )
        return self


GlueTaskName = Annotated[
    Literal["cola", "sst2", "mrpc", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli"],
    Field(description="The hub's name of the task; mnli-mm is MNLI with its mismatched dev text."),
]


class GlueDirSource(TextSource):
    """A task of GLUE, read from a folder of its files (`glue_dir`), which include dev text."""

    kind: Literal["glue_dir"]
    task: GlueTaskName

    @property
    def has_dev(self) -> bool:
        """As `TextSource`."""
        return True


Revision = Annotated[
    str, Field(pattern=r"^[0-9a-f]{40}$", description="The commit, 40 hexadecimal digits; a branch could change.")
]


class HubSource(TextSource):
    """A task of GLUE from the Hugging Face hub or its cache, which includes dev text."""

    kind: Literal["hub"]
    task: GlueTaskName
    dataset: str = Field("nyu-mll/glue", min_length=1, description="The repository on the hub.")
    revision: Revision

    @property
    def has_dev(self) -> bool:
        """As `TextSource`."""
        return True


Source = Annotated[PackagedSource | FileSource | GlueDirSource | HubSource, Field(discriminator="kind")]


class RestTexts(Strict):
    """The training texts of the task beyond `train_examples`."""

    kind: Literal["rest"]


class PackagedTexts(Strict):
    """The texts of a package, whole or divided into sentences."""

    kind: Literal["packaged"]
    name: PackagedName
    unit: Literal["text", "sentence"] = Field(
        "text", description="What counts as a text: the whole, or each of its sentences."
    )


class FileTexts(FileFormat):
    """The texts of a file: CSV, TSV, Parquet, JSONL or TXT."""

    kind: Literal["file"]
    path: OutsidePath = Field(description="The file, relative to the folder the command runs in.")
    text: list[Column] = Field(min_length=1, max_length=2, description="One text column, or the two of a pair.")


Unlabelled = Annotated[RestTexts | PackagedTexts | FileTexts, Field(discriminator="kind")]


class Splits(Strict):
    """The splits of the text, by a stable hash of the normalised text."""

    calibration: Fraction = Field(
        0.15, description="The share of the text on which temperatures are fitted and thresholds chosen."
    )
    dev: Fraction = Field(
        0.20,
        description="The share of the text on which accuracy is reported. Not used for a source with its own dev text.",
    )

    @model_validator(mode="after")
    def _leaves_training_text(self) -> Self:
        if self.calibration + self.dev >= 1.0:
            raise ValueError(
                f"calibration + dev is {self.calibration + self.dev:g}; the sum must be below 1, so that training "
                "text remains"
            )
        return self


class Triage(Strict):
    """What mistakes cost, for a task whose answers raise an alarm or not.

    A text whose confidence at full depth stays below a level goes to a person, who costs `review`. The level is chosen
    on the calibration split, for each operating point.
    """

    alarm: str = Field(description="The label that raises an alarm, such as spam.")
    costs: dict[str, NonNegative] = Field(
        min_length=2, description="Label -> the cost of a text of this label that is answered otherwise."
    )
    review: Positive | None = Field(
        None, description="The cost of a text that a person reads. Default: no text goes to a person."
    )

    @model_validator(mode="after")
    def _costs_something(self) -> Self:
        if self.alarm not in self.costs:
            raise ValueError(f"alarm: {self.alarm!r} has no cost; labels with one: {listed(self.costs)}")
        if not any(self.costs.values()):
            raise ValueError("costs: all are 0; give the label that must not be missed a cost above 0")
        return self


class Task(Strict):
    """A classification task: where its text comes from and how much of it is used."""

    source: Source
    title: Title | None = Field(
        None, description="The name of the task in the report, with any characters. Default: its key."
    )
    splits: Splits = Splits()
    max_length: int = Field(
        128, ge=8, description="The most tokens of a text, with [CLS] and [SEP]; longer texts are truncated."
    )
    train_examples: int | None = Field(None, ge=8, description="The most training texts. Default: all.")
    calibration_examples: int | None = Field(None, ge=8, description="The most calibration texts. Default: all.")
    dev_examples: int | None = Field(None, ge=8, description="The most dev texts. Default: all.")
    unlabelled: list[Unlabelled] = Field(
        default=[],
        description="Texts without labels, for stages with `texts: all`. Texts of the task's own splits are left out.",
    )
    unlabelled_examples: int | None = Field(None, ge=8, description="The most unlabelled texts. Default: all.")
    learning_rate: Positive | None = Field(None, description="For this task; overrides the study's.")
    batch_size: int | None = Field(None, ge=1, description="For this task; overrides the study's.")
    epochs: dict[Name, Positive] = Field(
        default={},
        description="Epochs of the stages with these names, in all systems; they override the stages' own. Annealing "
        "is scaled with them.",
    )
    epochs_scale: Positive = Field(
        1.0, description="A factor on the epochs of the recipes for this task; annealing is scaled with it."
    )
    triage: Triage | None = Field(
        None,
        description="The costs of mistakes, for the table of triage and for `exits.choose: {by: cost}`. The source "
        "must name its `labels`.",
    )
    models_of: Name | None = Field(
        None,
        description="Run the models trained for this task, without training. Used for MNLI's mismatched dev text, "
        "next to the matched one.",
    )

    @model_validator(mode="after")
    def _divides_what_is_whole(self) -> Self:
        if self.source.has_dev and self.splits.dev != Splits().dev:
            raise ValueError(
                f"splits.dev is {self.splits.dev:g}, but the source ({self.source.kind}) has its own dev text; omit "
                "splits.dev"
            )
        return self

    @model_validator(mode="after")
    def _costs_are_of_the_labels(self) -> Self:
        if self.triage is not None:
            labels = getattr(self.source, "labels", None)
            if labels is None:
                raise ValueError("triage: the source does not name its labels; give source.labels, in order")
            if sorted(labels) != sorted(self.triage.costs):
                raise ValueError(f"triage.costs: found {listed(self.triage.costs)}; give each label: {listed(labels)}")
        return self

    @property
    def costs(self) -> list[float]:
        """The cost of a mistake on a text of each class, in the order of the classes; empty without `triage`."""
        if self.triage is None:
            return []
        return [self.triage.costs[label] for label in getattr(self.source, "labels", [])]

    @property
    def alarm(self) -> int | None:
        """The class that raises an alarm."""
        return None if self.triage is None else list(getattr(self.source, "labels", [])).index(self.triage.alarm)
