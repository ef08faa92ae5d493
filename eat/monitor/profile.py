"""The reference profile of an exported model, `profile.json` in its folder: what it does to texts as they should be.

It holds no texts. It belongs to one model file, whose sha256 it states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from eat.errors import DamagedFile, EatError
from eat.files import read_json, write_json
from eat.monitor.comparison import LEVEL, SMALLEST_WINDOW, FalseAlarms, false_alarms
from eat.monitor.observations import Observations, observe
from eat.runtime.classifier import AdaptiveClassifier, Text
from eat.runtime.manifest import MODEL, PROFILE, Manifest, read_manifest

FORMAT = 1

FEWEST, MOST = 200, 5000
"""The texts of a profile. More are sampled: the comparison gains little from them."""

WINDOWS = (100, 200, 500, 1000)
"""The windows at which the rate of false alarms is measured, as far as half of the texts allow."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Profile:
    """The observations of the reference, with early exits and, if the model can run so, at full depth."""

    model: str
    early: Observations
    full_depth: Observations | None
    false_alarms: tuple[FalseAlarms, ...]

    def reference(self, full_depth: bool) -> Observations:
        """The observations with which a window is compared."""
        return self.full_depth if full_depth and self.full_depth is not None else self.early


def learn_profile(folder: Path, texts: Sequence[Text], resamples: int = RESAMPLES, most: int = MOST) -> Profile:
    """Run the model on texts as they should be, measure the false alarms, and write `profile.json` into the folder.

    most: the texts that are used; of more, a sample. Raises `EatError` if there are fewer than `FEWEST` texts or the
    classifier refuses one; nothing is written then.
    """
    if len(texts) < FEWEST:
        raise EatError(f"{len(texts)} texts for a profile; give at least {FEWEST} texts of the usual kind")
    model = AdaptiveClassifier.load(folder, threads=1)
    chosen = texts
    if len(texts) > most:
        picked = np.sort(np.random.default_rng(0).choice(len(texts), most, replace=False))
        chosen = [texts[number] for number in picked]
    early = observe(model, chosen)
    full_depth = observe(model, chosen, full_depth=True) if model.runs_at_full_depth else None
    windows = [size for size in WINDOWS if SMALLEST_WINDOW <= size <= len(early) // 2]
    measured = tuple(false_alarms(early, size, resamples) for size in windows)
    profile = Profile(model.manifest.digests[MODEL], early, full_depth, measured)
    write_json(folder / PROFILE, _plain(profile))
    return profile


def read_profile(folder: Path) -> Profile:
    """Read the profile of an export.

    Raises `EatError` if there is none or it is of another model, `DamagedFile` if it is not whole.
    """
    manifest = read_manifest(folder)
    path = folder / PROFILE
    if not path.is_file():
        raise EatError(f"{folder}: has no {PROFILE}; write it with: eat monitor {folder} --learn FILE")
    content = read_json(path)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT}")
        found = Profile(
            model=str(content["model"]),
            early=Observations.parsed(content["early"]),
            full_depth=Observations.parsed(content["full_depth"]) if content["full_depth"] else None,
            false_alarms=tuple(
                FalseAlarms(int(row["window"]), int(row["resamples"]), int(row["alarms"]))
                for row in content["false_alarms"]["measured"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedFile(f"{path}: {reason}; write it again with: eat monitor {folder} --learn FILE") from None
    _require_same_model(found, manifest, path)
    return found


def _require_same_model(profile: Profile, manifest: Manifest, path: Path) -> None:
    if profile.model != manifest.digests[MODEL]:
        raise EatError(
            f"{path}: is of another model ({profile.model[:12]}...; the folder has {manifest.digests[MODEL][:12]}...); "
            f"write it again with: eat monitor {path.parent} --learn FILE"
        )


def _plain(profile: Profile) -> dict[str, object]:
    return {
        "format": FORMAT,
        "model": profile.model,
        "texts": len(profile.early),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "false_alarms": {"level": LEVEL, "measured": [asdict(row) for row in profile.false_alarms]},
        "early": profile.early.plain(),
        "full_depth": profile.full_depth.plain() if profile.full_depth else None,
    }
