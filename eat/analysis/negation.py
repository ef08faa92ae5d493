"""What a reducer makes of negations: whether their tokens are kept, and whether the answers follow them.

For each text of the dev split that a rule can edit, a pair: the text and its edit, one with a negation and one without
(`eat.analysis.negation_edits`). An answer that changes within a pair follows the negation, rightly or not: the label
of an edited text is not known. So each system is compared with the dense reference on the same pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.analysis.cue_survival import Survival, positions_of, survivals
from eat.analysis.negation_edits import KINDS, Pair, pairs_of
from eat.analysis.negation_tables import answers_table, layers_table
from eat.analysis.trained import TrainedOptions, TrainedStudy
from eat.errors import EatError, listed
from eat.export.study_row import StudyRow
from eat.files import replacing_folder, write_json, write_table
from eat.model.hugging_face import load_model
from eat.model.tokenizer import encode, load_tokenizer, read_split
from eat.results.replay import Replay, replay
from eat.results.trace import Trace
from eat.statistics import UNKNOWN, Estimate, accuracy_interval, difference_interval, exact_share
from eat.study.study import Study
from eat.trace.recording import trace_texts

ANSWERS, LAYERS, PAIRS, EDITS, ABOUT = "negation.csv", "layers.csv", "pairs.csv", "edits.csv", "about.json"
ALL = "all"
"""Both kinds of edits together."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answered:
    """The answers of a system to N pairs.

    affirmative, negated: at the operating point. changed: whether the answer differs within the pair, bool (N,), and at
    full depth. lost: whether no token of the negation reaches the head that answers, bool (N,). survival: of the
    negated texts; `None` for the reference.
    """

    affirmative: Replay
    negated: Replay
    changed: Bools
    changed_at_full_depth: Bools
    lost: Bools
    survival: Sequence[Survival] | None = None


def probe_negation(options: TrainedOptions) -> str:
    """Ask the reference and each system with a reducer, write the results, and return the tables.

    Raises `EatError` if the study is not trained, has no system whose removals can be recorded, is of pairs of texts,
    or no text can be edited.
    """
    trained = TrainedStudy.of(options)
    systems = _reducing(trained.study, options.systems)
    table = read_split(trained.paths.split(trained.task, "dev"))
    if "text_b" in table:
        raise EatError(f"task {trained.task!r}: pairs of texts; negations are edited in single texts")
    reference = trained.row(trained.study.reference)
    rows = {system: trained.row(system) for system in systems}
    found = pairs_of(zip(table["id"], table["text"], strict=True))
    pairs = _within_length(found, reference)
    if not pairs:
        raise EatError(
            f"task {trained.task!r}: none of {len(table)} dev texts can be edited; the rules are for English"
        )
    answered = {trained.study.reference: _answers(trained, reference, pairs)}
    answered |= {system: _answers(trained, row, pairs) for system, row in rows.items()}
    kinds = {kind: np.array([pair.kind == kind for pair in pairs]) for kind in KINDS} | {ALL: np.ones(len(pairs), bool)}
    dense = answered[trained.study.reference]
    answers = pd.DataFrame(
        [
            {"system": system, "kind": kind, **_answer_row(own, dense, chosen)}
            for system, own in answered.items()
            for kind, chosen in kinds.items()
            if chosen.any()
        ]
    )
    layers = pd.DataFrame(
        [
            {"system": system, "reducer": trained.study.systems[system].reducer.kind, "kind": kind, **row}
            for system in systems
            for kind, chosen in kinds.items()
            for row in _layer_rows(answered[system], chosen)
        ]
    )
    about = {
        "study": trained.study.study,
        "task": trained.task,
        "seed": trained.seed,
        "reference": trained.study.reference,
        "dev_texts": len(table),
        "pairs": len(pairs),
        "cut_off": len(found) - len(pairs),
        "rules": {
            kind: pd.Series([pair.rule for pair in pairs if pair.kind == kind], dtype=object).value_counts().to_dict()
            for kind in KINDS
        },
    }
    with replacing_folder(options.to) as folder:
        write_table(folder / ANSWERS, answers)
        write_table(folder / LAYERS, layers)
        write_table(folder / PAIRS, _pair_rows(answered, pairs))
        write_table(folder / EDITS, _edit_rows(pairs))
        write_json(folder / ABOUT, about)
    counts = ", ".join(f"{int(chosen.sum())} {kind}" for kind, chosen in kinds.items())
    heads = f"{len(pairs)} pairs of {len(table)} dev texts ({counts})."
    return f"{heads}\n\n{layers_table(layers)}\n\n{answers_table(answers)}\n\nWritten to {options.to}."


def _reducing(study: Study, asked: Sequence[str]) -> list[str]:
    """The systems whose removals can be recorded: those with a reducer in the packed forward pass."""
    able = [name for name, row in study.systems.items() if row.reducer.kind != "none" and row.engine == "torch"]
    if not able:
        raise EatError(f"the study {study.study!r} has no system with a reducer in the engine torch; add one")
    if other := [name for name in asked if name not in able]:
        raise EatError(f"--system: found {listed(other)}; systems with a reducer in the engine torch: {listed(able)}")
    return list(asked) or able


def _within_length(pairs: Sequence[Pair], row: StudyRow) -> list[Pair]:
    """The pairs whose negation is not cut off."""
    tokenizer = load_tokenizer(row.folders[0])
    return [pair for pair in pairs if positions_of(tokenizer, pair.negated, *pair.cue, row.max_length)]


def _answers(trained: TrainedStudy, row: StudyRow, pairs: Sequence[Pair]) -> Answered:
    """Answer both texts of each pair at the study's operating point."""
    loaded, tokenizer = trained.loaded(row)
    ids, policy = [pair.id for pair in pairs], row.policy(None)
    texts = {
        side: encode(tokenizer, [getattr(pair, side) for pair in pairs], None, row.max_length)
        for side in ("affirmative", "negated")
    }
    unknown = np.zeros(len(pairs), dtype=np.int64)  # the label of an edited text is not known
    traces = {side: trace_texts(loaded, own, ids, unknown, f"{row.system} {side}") for side, own in texts.items()}
    affirmative, negated = (replay(trace, policy, f"{row.system} {side}") for side, trace in traces.items())
    survival, lost = None, np.zeros(len(pairs), dtype=bool)
    if row.parts.reducer.kind != "none" and row.parts.engine == "torch":
        model = load_model(row.folders[0], row.parts)
        own = [positions_of(tokenizer, pair.negated, *pair.cue, row.max_length) for pair in pairs]
        survival, place = survivals(model, texts["negated"], own, row.system), model.encoder.reducer.place
        lost = np.array(
            [one.lost_by(int(depth), place) for one, depth in zip(survival, negated.depth, strict=True)], dtype=bool
        )
    return Answered(
        affirmative,
        negated,
        affirmative.predictions != negated.predictions,
        _full_depth(traces["affirmative"]) != _full_depth(traces["negated"]),
        lost,
        survival,
    )


def _full_depth(trace: Trace) -> npt.NDArray[np.int64]:
    """The classes answered without early exits."""
    answers: npt.NDArray[np.int64] = trace.logits[trace.shape["layers"]].argmax(axis=1)
    return answers


def _answer_row(own: Answered, dense: Answered, chosen: Bools) -> dict[str, Any]:
    """How often the answer changes within the chosen pairs, and how often that of the reference does.

    n: pairs. changed: share whose answers differ. difference: from the reference's share. missed: of the pairs in
    which the reference's answer changes, the share in which the system's does not. lost: share whose negation does not
    reach the head that answers; changed_if_lost and changed_if_kept are shares of these pairs and of the others, and
    dense_if_lost and dense_if_kept those of the reference on the same pairs. The reference removes nothing: these
    and the comparisons with itself are NaN.
    """
    changed, base = own.changed[chosen], dense.changed[chosen]
    lost = own.lost[chosen]
    row: dict[str, Any] = {"n": int(chosen.sum())}
    row |= _share(changed).columns("changed") | {
        "changed_at_full_depth": float(own.changed_at_full_depth[chosen].mean())
    }
    if own is dense:
        difference, missed = UNKNOWN, np.zeros(0, dtype=bool)
    else:
        difference, missed = difference_interval(changed[:, None], base[:, None]), ~changed[base]
    row |= difference.columns("difference")
    row |= {"missed_n": len(missed)} | exact_share(missed).columns("missed")
    row |= {"lost_n": int(lost.sum())} | (UNKNOWN if own is dense else _share(lost)).columns("lost")
    reduces = own is not dense
    for name, part in (("lost", lost & reduces), ("kept", ~lost & reduces)):
        row |= exact_share(changed[part]).columns(f"changed_if_{name}") | exact_share(base[part]).columns(
            f"dense_if_{name}"
        )
    return row | {"avg_depth": float(own.negated.depth[chosen].mean())}


def _layer_rows(own: Answered, chosen: Bools) -> list[dict[str, Any]]:
    """Of each removal, at full depth: the share of pairs whose negation is lost by then, and that of other tokens."""
    assert own.survival is not None
    picked = [one for one, is_chosen in zip(own.survival, chosen, strict=True) if is_chosen]
    if not picked:
        return []
    return [
        {
            "layer": layer,
            "n": len(picked),
            **_share(np.array([one.lost(layer) for one in picked])).columns("lost"),
            "others_lost": float(np.mean([one.others_lost(layer) for one in picked])),
        }
        for layer in picked[0].alive
    ]


def _share(flags: Bools) -> Estimate:
    """A share with Wilson's interval."""
    return accuracy_interval(flags[:, None])


def _pair_rows(answered: dict[str, Answered], pairs: Sequence[Pair]) -> pd.DataFrame:
    """A row for each system and pair: its answers, the layers that it ran, and where the negation was lost."""
    tables = []
    for system, own in answered.items():
        lost_at = [None] * len(pairs) if own.survival is None else [one.lost_at for one in own.survival]
        columns = {
            "system": system,
            "id": [pair.id for pair in pairs],
            "kind": [pair.kind for pair in pairs],
            "rule": [pair.rule for pair in pairs],
            "affirmative": own.affirmative.predictions,
            "negated": own.negated.predictions,
            "depth": own.negated.depth,
            "lost_at": pd.array(lost_at, dtype="Int64"),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _edit_rows(pairs: Sequence[Pair]) -> pd.DataFrame:
    """The edits without the texts: characters `start` to `end` of the text with this id become `replacement`."""
    names = ("id", "kind", "rule", "start", "end", "replacement")
    return pd.DataFrame([{name: getattr(pair, name) for name in names} for pair in pairs], columns=list(names))
