"""The paths of the files of a tagging study that other studies do not have; the others are those of `StudyPaths`."""

from __future__ import annotations

from pathlib import Path

from eat.study.paths import StudyPaths
from eat.study.tagging import STAGE


class TaggingPaths(StudyPaths):
    """The files of one tagging study."""

    def sentences(self, task: str, split: str) -> Path:
        """One split of a task's sentences."""
        return self.data / task / f"sentences_{split}.parquet"

    def sentences_card(self, task: str) -> Path:
        """The card of a task's sentences: tags, counts, digests."""
        return self.data / task / "sentences.json"

    def tagger(self, task: str, system: str, seed: int | str) -> Path:
        """The folder of a trained tagger."""
        return self.model(task, system, seed, STAGE)

    @property
    def page(self) -> Path:
        """The report."""
        return self.report / "report.html"
