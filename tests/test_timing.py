"""The clock: which texts, which rows, and the gate between what was timed and what was traced.

No test here asserts a time: only that what must be timed is, in pairs, and that other answers are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic_traces import make_trace

from eat import timing
from eat.config import Study
from eat.errors import EatError
from eat.exits import ExitPolicy
from eat.files import write_json
from eat.recording import record_trace
from eat.timing import Answers, Entry, TimedSystem, TimingResult, compare, stratified, time_task
from eat.trace import Trace

COLUMNS = ["seed", "system", "tau", "batch_size", "repeat", "block", "unit", "n", "ms"]


# --- which texts --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 300), min_size=1, max_size=120), st.integers(1, 150))
def test_stratified_rows_are_distinct_and_at_most_all(lengths: list[int], count: int):
    rows = stratified(lengths, count)
    assert len(rows) == len(set(rows)) == min(count, len(lengths))
    assert set(rows) <= set(range(len(lengths)))
    assert rows == stratified(lengths, count)


def test_stratified_lengths_are_distributed_as_all_are():
    # of n sorted lengths cut into k equal strata, one is taken of each: quantiles differ by at most a stratum
    lengths = np.random.default_rng(0).lognormal(3, 0.8, 1000).astype(int) + 3
    rows = stratified(lengths.tolist(), 100)
    taken, ordered = np.sort(lengths[rows]), np.sort(lengths)
    for stratum, length in enumerate(taken):
        assert ordered[10 * stratum] <= length <= ordered[10 * stratum + 9]
    assert rows != sorted(rows, key=lambda row: lengths[row])


# --- the gate -----------------------------------------------------------------------------------------------------


def entry_of(trace: Trace, policy: ExitPolicy) -> Entry:
    return Entry("eat", 1, policy.tau, lambda texts: lambda: Answers([], [], []), timing._expected(trace, policy))


def answers_of(entry: Entry) -> dict[str, tuple[int, int, int]]:
    """What the trace says, as if it had been timed."""
    expected = entry.expected
    assert expected is not None
    return {
        text: (int(expected.replay.predictions[row]), int(expected.replay.depth[row]), int(expected.tokens[row]))
        for text, row in expected.row.items()
    }


def compared(entry: Entry, answers: dict[str, tuple[int, int, int]], batch_size: int, dtype: str) -> dict[str, Any]:
    """The comparison, each text answered once."""
    return compare(entry, {text: {answer} for text, answer in answers.items()}, batch_size, dtype)


def test_every_repeat_is_compared(trace: Trace):
    entry = entry_of(trace, POLICY)
    answers = {text: {answer} for text, answer in answers_of(entry).items()}
    assert entry.expected is not None
    text = str(trace.ids[int(entry.expected.margin.argmax())])
    ((label, depth, tokens),) = answers[text]
    answers[text].add((1 - label, depth, tokens))  # right once, wrong once
    with pytest.raises(EatError, match="1 of 400"):
        compare(entry, answers, 1, "float32")


def with_logits(trace: Trace, row: int, depth: int, logits: list[float]) -> Trace:
    changed = {key: values.copy() for key, values in trace.logits.items()}
    changed[depth][row] = logits
    return replace(trace, logits=changed)


POLICY = ExitPolicy(("confidence",), 0.8)


@pytest.fixture
def trace() -> Trace:
    return make_trace(rows=400)


def test_the_same_answers_are_accepted(trace: Trace):
    entry = entry_of(trace, POLICY)
    assert compared(entry, answers_of(entry), 1, "float32") == {
        "system": "eat", "seed": 1, "tau": 0.8, "batch_size": 1, "compared": 400, "different": 0,
        "allowed": 2,  # 0.5 % of 400
    }  # fmt: skip


@pytest.mark.parametrize("part", ["class", "depth", "tokens"])
def test_a_different_answer_far_from_a_tie_is_refused(trace: Trace, part: str):
    entry = entry_of(trace, POLICY)
    answers = answers_of(entry)
    assert entry.expected is not None
    row = int(entry.expected.margin.argmax())
    text = str(trace.ids[row])
    label, depth, tokens = answers[text]
    answers[text] = {
        "class": (1 - label, depth, tokens),
        "depth": (label, 10 - depth, tokens),
        "tokens": (label, depth, tokens + 1),
    }[part]
    with pytest.raises(EatError, match=rf"eat at tau 0\.8, batch 1: 1 of 400 texts .* {text}: timed") as error:
        compared(entry, answers, 1, "float32")
    assert "\n" not in str(error.value)


# logits (0, x) give the probability 1 / (1 + e^-x): at x = ln 4 it is 0.8
NEAR, FAR = 1e-5, 1e-2
AT_THRESHOLD = float(np.log(4))


@pytest.mark.parametrize(
    ("depth", "logits", "tie"),
    [
        (4, [0.0, AT_THRESHOLD + NEAR], True),  # the threshold
        (4, [0.0, AT_THRESHOLD - NEAR], True),
        (4, [0.0, AT_THRESHOLD + FAR], False),
        (6, [0.0, NEAR], True),  # two classes equally good at the last exit
        (6, [0.0, FAR], False),
    ],
)
def test_only_a_tie_excuses_another_answer(trace: Trace, depth: int, logits: list[float], tie: bool):
    row = 7
    trace = with_logits(trace, row, 4, [0.0, 0.5])  # runs to the end, far from the threshold, unless the case says so
    entry = entry_of(with_logits(trace, row, depth, logits), POLICY)
    answers = answers_of(entry)
    label, executed, tokens = answers[str(trace.ids[row])]
    answers[str(trace.ids[row])] = (1 - label, executed, tokens)
    if tie:
        assert compared(entry, answers, 1, "float32")["different"] == 1
    else:
        with pytest.raises(EatError, match="1 of 400"):
            compared(entry, answers, 1, "float32")
        # half precision rounds a hundred times as much: FAR lies within its margin of 1e-2
        assert compared(entry, answers, 1, "float16")["different"] == 1


def test_a_tie_at_a_reducer_s_cut_excuses_too(trace: Trace):
    early = next(row for row, depth in enumerate(entry_of(trace, POLICY).expected.replay.depth) if depth == 4)
    for layer, excused in ((4, True), (5, False)):  # a cut behind the exit changed nothing
        trace.cut_margin[early] = 0.1
        trace.cut_margin[early, layer - 1] = 1e-6
        entry = entry_of(trace, POLICY)
        answers = answers_of(entry)
        label, depth, tokens = answers[str(trace.ids[early])]
        answers[str(trace.ids[early])] = (1 - label, depth, tokens)
        if excused:
            assert compared(entry, answers, 32, "float32")["different"] == 1
        else:
            with pytest.raises(EatError, match="1 of 400"):
                compared(entry, answers, 32, "float32")


def test_too_many_ties_are_refused(trace: Trace):
    trace.cut_margin[:3] = 0.0
    entry = entry_of(trace, POLICY)
    answers = answers_of(entry)
    for row in range(3):
        label, depth, tokens = answers[str(trace.ids[row])]
        answers[str(trace.ids[row])] = (1 - label, depth, tokens)
        if row < 2:
            assert compared(entry, answers, 1, "float32")["different"] == row + 1
    with pytest.raises(EatError, match=r"3 of 400 .* each at a tie\); 2 may be"):
        compared(entry, answers, 1, "float32")


# --- the whole ----------------------------------------------------------------------------------------------------

TEXTS, BLOCKS, REPEATS, SEEDS = 10, 3, 2, (1, 2)


@dataclass(frozen=True)
class Prepared:
    """What a timing job reads."""

    study: Study
    systems: list[TimedSystem]
    dev: Path
    folder: Path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two tiny systems and two seeds, with their traces."""
    folder = tmp_path_factory.mktemp("timing")
    study = tiny.study(
        seeds=list(SEEDS),
        timing={"texts": TEXTS, "batch_sizes": [1, 4], "blocks": BLOCKS, "repeats": REPEATS, "warmup": 2, "threads": 1,
                "deep_layers": 6},
    )  # fmt: skip
    tiny.split(folder / "dev.parquet", rows=24, seed=7)
    systems = []
    for seed in SEEDS:
        for name, row in study.systems.items():
            model = tiny.model(
                row.exits.after,
                row.reducer.model_dump(),
                row.attention.model_dump(),
                row.exits.read,
                row.last_head,
                seed,
            )
            place = folder / name / str(seed)
            model.save_pretrained(place)
            tiny.save_tokenizer(place)
            record_trace(place, folder / "dev.parquet", 32, name).write(place / "dev.parquet")
            systems.append(TimedSystem(name, seed, place, place / "dev.parquet", {2: 1.3}))
    return Prepared(study, systems, folder / "dev.parquet", folder)


@pytest.fixture(scope="module")
def timed(prepared: Prepared) -> TimingResult:
    return time_task(prepared.study, "tiny", prepared.systems, prepared.dev)


def points(calls: pd.DataFrame) -> set[tuple[str, float | None]]:
    return {
        (str(system), None if pd.isna(tau) else float(tau))
        for system, tau in calls[["system", "tau"]].drop_duplicates().itertuples(index=False)
    }


def test_every_system_and_reference_is_timed(timed: TimingResult):
    assert list(timed.calls.columns) == COLUMNS
    own = {("dense", None), ("eat", 0.6), ("eat", 0.9)}
    stock = {("hf-dense", None), ("hf-dense-again", None), ("hf-dense-6", None)}
    single, batched = (timed.calls[timed.calls["batch_size"] == size] for size in (1, 4))
    assert points(single) == own | stock
    assert points(batched) == own | stock | {("hf-dense-sorted", None)}
    assert (timed.calls["ms"] > 0).all()
    assert set(timed.calls["seed"]) == set(SEEDS)


def test_units_pair_across_systems(timed: TimingResult):
    calls = timed.calls
    texts = set(timed.state["texts"])
    for (size, seed, repeat), group in calls.groupby(["batch_size", "seed", "repeat"]):
        units = [
            rows.sort_values("unit")[["unit", "block", "n"]].to_numpy().tolist()
            for _, rows in group.groupby(["system", "tau"], dropna=False)
        ]
        assert all(one == units[0] for one in units), (size, seed, repeat)
        if size == 1:
            assert {unit for unit, _, _ in units[0]} == texts
            assert all(n == 1 for _, _, n in units[0])
        else:
            assert len(units[0]) == BLOCKS
            assert all(n == TEXTS for _, _, n in units[0])  # all texts in each, so that sorting sorts them all
    assert set(calls["repeat"]) == set(range(REPEATS))


def test_texts_are_shuffled_anew_in_each_repeat(timed: TimingResult):
    calls = timed.calls
    single = calls[(calls["batch_size"] == 1) & (calls["system"] == "dense") & (calls["seed"] == 1)]
    orders = [rows["unit"].tolist() for _, rows in single.groupby("repeat")]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_answers_are_compared_with_the_trace(timed: TimingResult):
    agreement = pd.DataFrame(timed.state["agreement"])
    assert list(agreement.columns) == ["system", "seed", "tau", "batch_size", "compared", "different", "allowed"]
    assert (agreement["compared"] == TEXTS).all()
    assert (agreement["different"] == 0).all()
    # the deeper model has random weights and no trace
    single = agreement[agreement["batch_size"] == 1]
    assert points(single) == points(timed.calls) - {("hf-dense-6", None), ("hf-dense-sorted", None)}
    assert len(single) == len(SEEDS) * 5
    assert len(agreement) == len(SEEDS) * (5 + 6)


def test_the_state_tells_what_the_times_were_taken_on(timed: TimingResult, tmp_path: Path):
    state = timed.state
    write_json(tmp_path / "state.json", state)  # holds no NaN, nothing that JSON cannot say
    assert isinstance(state["busy"], bool)
    assert state["foreign_load"] >= 0
    assert (state["task"], state["device"], state["dtype"], state["threads"]) == ("tiny", "cpu", "float32", 1)
    assert state["n_timed"] == len(state["texts"]) == TEXTS
    assert state["tokenization_ms_per_text"] > 0
    assert len(state["load_average"]) == 2
    assert state["machine"].keys() >= {"cpu", "cores", "memory_gib", "platform"}
    assert state["versions"]["torch"] == torch.__version__


def test_other_processes_make_a_machine_busy(monkeypatch: pytest.MonkeyPatch):
    clock = iter([10.0, 20.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(timing.psutil, "cpu_count", lambda: 2)
    machine, own = iter([100.0, 115.0]), iter([5.0, 15.0])
    monkeypatch.setattr(timing, "_busy_seconds", lambda: next(machine))
    monkeypatch.setattr(timing, "_own_seconds", lambda: next(own))
    with timing._ForeignLoad() as foreign:
        pass
    # 15 s of two cores' 2 * 10 s were busy, 10 s of them ours
    assert foreign.share == pytest.approx(0.25)
    assert foreign.share > timing.BUSY


def test_a_model_that_is_not_the_traced_one_is_refused(prepared: Prepared):
    first, second = (one for one in prepared.systems if one.system == "eat")
    mixed = [prepared.systems[0], replace(first, trace=second.trace)]
    with pytest.raises(EatError, match=r"eat at tau .*, batch 1: .* texts were answered otherwise .* make both again"):
        time_task(prepared.study, "tiny", mixed, prepared.dev)


def test_temperatures_are_part_of_the_operating_point(prepared: Prepared):
    # at a temperature of 50 all probabilities are near 1/2: nobody is certain enough, and all run to the end
    flat = replace(prepared.systems[1], temperatures={2: 50.0})
    entries = timing._entries(prepared.study, flat, torch.device("cpu"))
    texts = tiny.texts([9, 14])
    with torch.inference_mode():
        assert [entry.run(texts)().depth for entry in entries] == [[4, 4], [4, 4]]
    for entry in entries:
        assert entry.expected is not None
        assert set(entry.expected.replay.depth) == {4}


def test_more_blocks_than_texts_leave_no_empty_unit(prepared: Prepared):
    options = prepared.study.timing.model_copy(update={"texts": 8, "blocks": 20, "repeats": 1, "batch_sizes": [1, 4]})
    study = prepared.study.model_copy(update={"timing": options})
    calls = time_task(study, "tiny", prepared.systems[:1], prepared.dev).calls
    assert (calls["n"] > 0).all()


def test_a_gpu_that_is_not_there(prepared: Prepared):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    options = prepared.study.timing.model_copy(update={"device": "cuda"})
    study = prepared.study.model_copy(update={"timing": options})
    with pytest.raises(EatError, match=r"timing\.device is cuda, but torch finds no GPU here; set it to cpu"):
        time_task(study, "tiny", prepared.systems, prepared.dev)


def test_warm_up_meets_every_length(prepared: Prepared):
    encoded = tiny.texts([5, 9, 5, 12, 9])
    calls = list(timing._warmup_batches(encoded, 1, at_least=7))
    assert len(calls) == 7
    assert {len(batch[0].ids) for batch in calls} == {5, 9, 12}
    assert [len(batch) for batch in timing._warmup_batches(encoded, 2, at_least=7)][:2] == [2, 2]


def test_garbage_is_not_collected_while_the_clock_runs():
    import gc

    with timing._quiet():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_batches_are_cut_as_they_are_asked_for(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    encoded = tiny.texts([5, 9, 6, 12, 7])
    seen: list[list[int]] = []

    def run(texts: list) -> object:
        seen.append([len(text.ids) for text in texts])
        return lambda: Answers([0] * len(texts), [4] * len(texts), [0] * len(texts))

    answers: dict[str, set[tuple[int, int, int]]] = {}
    ids = list("abcde")
    entry = Entry("x", 1, None, run)
    calls = timing._time_block(entry, np.arange(5), ids, encoded, 2, 0, 1, answers)
    assert seen == [[5, 9], [6, 12], [7]]
    assert [(call["unit"], call["n"]) for call in calls] == [("0.1", 5)]
    seen.clear()
    timing._time_block(replace(entry, sort=True), np.arange(5), ids, encoded, 2, 0, 1, answers)
    assert seen == [[5, 6], [7, 9], [12]]
    assert answers == {text: {(0, 4, 0)} for text in ids}
