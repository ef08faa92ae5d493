"""The options of `eat evade`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eat.errors import EatError, listed
from eat.evasion.attack import GOALS, KINDS
from eat.files import require_place
from eat.runtime.classifier import usable_cores
from eat.text_files.form import ORDINARY, TextForm

ALL = "all"
"""All kinds of edits in one attack."""


@dataclass(frozen=True)
class EvadeOptions:
    """What is attacked, with which texts, and how.

    folders: exports; the first is the one whose speed the others are compared with. texts: a file of labelled texts
    that the models have not learned from. column, label: of it. words: a file of labelled texts with the same columns,
    whose words edits are made of; default: the rows of `texts` that are not attacked. to: the folder to write. goals,
    kinds: one attack for each pair of them; `all` is all kinds of edits in one attack. count: texts of each attack.
    only: attack only texts of this label. queries, edits: as in `Attack`. checked: the edited texts to be checked by
    hand. workers: texts that are attacked at the same time. seed: of the choice of texts.
    """

    folders: Sequence[Path]
    texts: Path
    label: str
    to: Path
    column: str | None = None
    words: Path | None = None
    goals: Sequence[str] = ()
    kinds: Sequence[str] = ()
    count: int = 500
    only: str | None = None
    queries: int = 200
    edits: float = 0.2
    checked: int = 50
    workers: int | None = None
    seed: int = 1
    form: TextForm = ORDINARY

    def __post_init__(self) -> None:
        for name, given, allowed in (("goal", self.goals, [*GOALS]), ("kind", self.kinds, [*KINDS, ALL])):
            unknown = [one for one in given if one not in allowed]
            if unknown:
                raise EatError(f"--{name}: found {listed(unknown)}; allowed: {listed(allowed)}")
        for name, least in (("count", 1), ("queries", 2), ("checked", 0), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise EatError(f"--{name}: found {value}; give a whole number from {least} on")
        if not 0.0 < self.edits <= 1.0:
            raise EatError(f"--edits: found {self.edits:g}; give a share of the words, above 0 and at most 1")
        names = [folder.resolve().name for folder in self.folders]
        if len(set(names)) < len(names):
            raise EatError(f"two folders have one name ({listed(names)}), by which tables tell them apart; rename one")
        if self.to.exists() and (not self.to.is_dir() or any(self.to.iterdir())):
            raise EatError(f"{self.to}: exists; give a new folder with --to")
        require_place(self.to)

    @property
    def attacks(self) -> list[tuple[str, str]]:
        """The pairs of goal and kind."""
        return [(goal, kind) for goal in self.goals or GOALS for kind in self.kinds or KINDS]

    @property
    def threads(self) -> int:
        """The texts that are attacked at the same time."""
        return usable_cores() if self.workers is None else self.workers
