"""The section `tasks` of a study: where text comes from, how it is split, and how much of it is used."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from eat.validation import Distinct, Fraction, Name, OutsidePath, Positive, Strict, Title


class PackagedSource(Strict):
    """Labelled text that comes inside a pinned PyPI package; its sha256 is checked."""

    kind: Literal["packaged"]
    name: Literal["rotten_tomatoes", "imdb", "bbc_news"]


class FileSource(Strict):
    """A user's own table: CSV, Parquet or JSONL with one or two text columns and a label column."""

    kind: Literal["file"]
    path: OutsidePath = Field(description="The file, relative to the folder the command runs in.")
    text: list[str] = Field(min_length=1, max_length=2, description="One text column, or the two of a pair.")
    label: str = Field(description="The label column.")
    labels: Distinct[str] | None = Field(
        default=None, min_length=2, description="The labels in order. Default: those found, sorted."
    )


GlueTaskName = Annotated[
    Literal["cola", "sst2", "mrpc", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli"],
    Field(description="The hub's name of the task; mnli-mm is MNLI with its mismatched dev text."),
]


class GlueDirSource(Strict):
    """A task of GLUE, read from a folder of its files (`glue_dir`); they bring dev text of their own."""

    kind: Literal["glue_dir"]
    task: GlueTaskName


Revision = Annotated[
    str, Field(pattern=r"^[0-9a-f]{40}$", description="The commit, 40 hexadecimal digits: a branch could move.")
]


class HubSource(Strict):
    """A task of GLUE from the Hugging Face hub or its cache; it brings dev text of its own."""

    kind: Literal["hub"]
    task: GlueTaskName
    dataset: str = Field("nyu-mll/glue", min_length=1, description="The repository on the hub.")
    revision: Revision


Source = Annotated[PackagedSource | FileSource | GlueDirSource | HubSource, Field(discriminator="kind")]


class Splits(Strict):
    """How text is divided, by a stable hash of the normalised text."""

    calibration: Fraction = Field(0.15, description="The part that fits temperatures and picks thresholds.")
    dev: Fraction = Field(
        0.20, description="The part that accuracy is reported on. A source that brings dev text of its own takes none."
    )

    @model_validator(mode="after")
    def _leaves_training_text(self) -> Self:
        if self.calibration + self.dev >= 1.0:
            raise ValueError(f"calibration + dev is {self.calibration + self.dev:g}; they must leave text to train on")
        return self


class Task(Strict):
    """A classification task: where its text comes from and how much of it is used."""

    source: Source
    title: Title | None = Field(None, description="What the report calls the task, in any signs. Default: its name.")
    splits: Splits = Splits()
    max_length: int = Field(128, ge=8, description="Tokens of a text at most, with [CLS] and [SEP]; longer is cut.")
    train_examples: int | None = Field(None, ge=8, description="At most so many training texts. Default: all.")
    calibration_examples: int | None = Field(None, ge=8, description="At most so many calibration texts.")
    dev_examples: int | None = Field(None, ge=8, description="At most so many dev texts.")
    learning_rate: Positive | None = Field(None, description="For this task, in place of the study's.")
    batch_size: int | None = Field(None, ge=1, description="For this task, in place of the study's.")
    epochs: dict[Name, Positive] = Field(
        default={},
        description="Epochs of the stages of these names, of all systems, in place of the stages' own; annealing "
        "stretches with them.",
    )
    epochs_scale: Positive = Field(
        1.0, description="Train so many times as long on this task as recipes say; annealing stretches with it."
    )
    models_of: Name | None = Field(
        None,
        description="Run the models trained for this task, and train nothing. So MNLI's mismatched dev text stands "
        "beside the matched one.",
    )

    @model_validator(mode="after")
    def _divides_what_is_whole(self) -> Self:
        if isinstance(self.source, GlueDirSource | HubSource) and self.splits.dev != Splits().dev:
            raise ValueError(f"splits.dev is {self.splits.dev:g}, but {self.source.kind} brings dev text; take it off")
        return self
