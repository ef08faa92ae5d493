"""Labelled texts of another domain, with the labels of a trained task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eat.errors import EatError, listed
from eat.prepare.sources.registry import reader_of
from eat.prepare.splits import distinct, ordered
from eat.progress import Progress
from eat.study.tasks import Source


@dataclass(frozen=True)
class OtherDomain:
    """The texts of another domain. Both halves have the columns id, text, [text_b], label (a number of the task's).

    fitting: the half on which temperatures are fitted. testing: the half on which everything is measured. about: the
    source, the labels, and counts of texts that are left out.
    """

    fitting: pd.DataFrame
    testing: pd.DataFrame
    about: dict[str, Any]


def labels_from(given: Sequence[str]) -> dict[str, str]:
    """Their label -> ours, from `THEIRS=OURS` as on the command line. Raises `EatError` if one is not of this form."""
    found: dict[str, str] = {}
    for one in given:
        theirs, sign, ours = one.partition("=")
        if not sign or not theirs or not ours or theirs in found:
            raise EatError(f"--map: found {one!r}; give each label of the texts once, as THEIRS=OURS")
        found[theirs] = ours
    return found


def read_domain(
    source: Source,
    labels: Sequence[str],
    mapping: Mapping[str, str],
    seen: Collection[str],
    count: int,
    pair: bool,
) -> OtherDomain:
    """Read texts, map their labels, and divide them into two halves.

    labels: of the task, in order. mapping: their label -> one of these; a label that is absent must have the same name,
    or its texts are left out. seen: ids of texts that the models have learned from or were calibrated on, which are
    left out. count: the most texts, the first in the order of their hashes, as in a split. pair: whether the task is
    of pairs. Raises `EatError` if the mapping does not fit, or a half has fewer than two texts of a label that occurs.
    """
    with Progress("reading the text"):
        texts = reader_of(source).read()
    if texts.pair != pair:
        raise EatError(f"the texts are {_form(texts.pair)}, but the task is of {_form(pair)}; give the same")
    if unknown := [theirs for theirs in mapping if theirs not in texts.labels]:
        raise EatError(f"--map: the texts have no label {listed(unknown)}; theirs: {listed(texts.labels)}")
    if unknown := [ours for ours in mapping.values() if ours not in labels]:
        raise EatError(f"--map: the task has no label {listed(unknown)}; its labels: {listed(labels)}")
    named = [mapping.get(theirs, theirs) for theirs in texts.labels]
    numbers = {place: labels.index(ours) for place, ours in enumerate(named) if ours in labels}
    if len({*numbers.values()}) < 2:
        raise EatError(
            f"fewer than two labels of the texts ({listed(texts.labels)}) are labels of the task ({listed(labels)}); "
            "give --map THEIRS=OURS"
        )
    table = texts.table if texts.dev is None else pd.concat([texts.table, texts.dev], ignore_index=True)
    of_ours = table["label"].isin([*numbers])
    kept, rows = distinct(table[of_ours].assign(label=lambda own: own["label"].map(numbers)))
    new = ~kept["id"].isin(set(seen))
    picked = ordered(kept[new], count)
    halves = [picked.iloc[start::2].reset_index(drop=True) for start in (0, 1)]
    for half in halves:
        few = [labels[number] for number in sorted({*numbers.values()}) if (half["label"] == number).sum() < 2]
        if few:
            raise EatError(
                f"{len(picked)} texts are left, and a half has fewer than two of {listed(few)}; give more texts, or "
                "raise --count"
            )
    about = {
        "source": texts.description,
        "labels": {texts.labels[place]: named[place] for place in numbers},
        "rows": {
            "read": len(table),
            "of_other_labels": int((~of_ours).sum()),
            **{name: number for name, number in rows.items() if name != "read"},
            "seen_by_the_models": int((~new).sum()),
            "used": len(picked),
        },
    }
    return OtherDomain(halves[0], halves[1], about)


def _form(pair: bool) -> str:
    return "pairs of texts" if pair else "single texts"
