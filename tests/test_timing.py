"""The clock: which texts, which rows, and the gate between what was timed and what was traced.

No test here asserts a time: only that what must be timed is, in pairs, and that other answers are refused.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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

from eat import progress
from eat.engines.engine import Run
from eat.errors import EatError
from eat.files import write_json
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import Encoded, encode_split, load_tokenizer
from eat.processor import cpu_name
from eat.progress import Progress
from eat.results.trace import Trace
from eat.study.study import Study
from eat.study.timing import Timing
from eat.timing import clock
from eat.timing.agreement import compare, expected_of
from eat.timing.clock import TimingResult, time_task
from eat.timing.entries import TimedSystem, entries_of, reference_entries, trained_in
from eat.timing.entry import Entry
from eat.timing.rounds import Round, _rounds, _time_round, _warmup, _warmup_batches
from eat.timing.timed_texts import TimedTexts, stratified
from eat.trace.recording import record_trace

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


class FixedRun(Run):
    """Every text answered with class 0 after layer 4, by no token."""

    def __init__(self, texts: int) -> None:
        super().__init__([0] * texts)

    def logits(self) -> torch.Tensor:
        return torch.zeros(len(self.classes), 2)

    def probabilities(self) -> torch.Tensor:
        return self.logits() + 0.5

    def depth(self) -> list[int]:
        return [4] * len(self.classes)

    def tokens(self) -> list[int]:
        return [0] * len(self.classes)

    def flops(self) -> float:
        return 0.0


def entry_of(trace: Trace, policy: ExitPolicy, precision: str = "float32") -> Entry:
    expected = expected_of(trace, policy)
    return Entry("eat", 1, policy.tau, "torch", precision, [], lambda texts: FixedRun(0), expected)


def answers_of(entry: Entry) -> dict[str, tuple[int, int, int]]:
    """What the trace says, as if it had been timed."""
    expected = entry.expected
    assert expected is not None
    return {
        text: (int(expected.replay.predictions[row]), int(expected.replay.depth[row]), int(expected.tokens[row]))
        for text, row in expected.row.items()
    }


def compared(entry: Entry, answers: dict[str, tuple[int, int, int]], batch_size: int = 1) -> dict[str, Any]:
    """The comparison, each text answered once."""
    return compare(entry, {text: {answer} for text, answer in answers.items()}, batch_size)


def test_every_repeat_is_compared(trace: Trace):
    entry = entry_of(trace, POLICY)
    answers = {text: {answer} for text, answer in answers_of(entry).items()}
    assert entry.expected is not None
    text = str(trace.ids[int(entry.expected.margin.argmax())])
    ((label, depth, tokens),) = answers[text]
    answers[text].add((1 - label, depth, tokens))  # right once, wrong once
    with pytest.raises(EatError, match="1 of 400"):
        compare(entry, answers, 1)


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
    assert compared(entry, answers_of(entry)) == {
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
        compared(entry, answers)
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
    trace = with_logits(trace, row, depth, logits)
    entry = entry_of(trace, POLICY)
    answers = answers_of(entry)
    label, executed, tokens = answers[str(trace.ids[row])]
    answers[str(trace.ids[row])] = (1 - label, executed, tokens)
    if tie:
        assert compared(entry, answers)["different"] == 1
    else:
        with pytest.raises(EatError, match="1 of 400"):
            compared(entry, answers)
        # these round a hundred times as much: FAR lies within their margin of 1e-2
        for precision in ("float16", "bfloat16", "int8"):
            assert compared(entry_of(trace, POLICY, precision), answers)["different"] == 1


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
            assert compared(entry, answers, 32)["different"] == 1
        else:
            with pytest.raises(EatError, match="1 of 400"):
                compared(entry, answers, 32)


def test_too_many_ties_are_refused(trace: Trace):
    trace.cut_margin[:3] = 0.0
    entry = entry_of(trace, POLICY)
    answers = answers_of(entry)
    for row in range(3):
        label, depth, tokens = answers[str(trace.ids[row])]
        answers[str(trace.ids[row])] = (1 - label, depth, tokens)
        if row < 2:
            assert compared(entry, answers)["different"] == row + 1
    with pytest.raises(EatError, match=r"3 of 400 .* each at a tie\); 2 may differ"):
        compared(entry, answers)


# --- the whole ----------------------------------------------------------------------------------------------------

TEXTS, BLOCK_TEXTS, REPEATS, PASSES, SEEDS = 10, 4, 2, 3, (1, 2)
BLOCKS = 3  # of 4, 3 and 3 texts
POINTS = {("dense", None), ("eat", 0.6), ("eat", 0.9), ("dense-half", None), ("eat-int8", 0.7)}
STOCK = {("hf-dense", None), ("hf-dense-again", None)}
LATENCY_ALONE = {("hf-dense-6", None), ("hf-dense-bfloat16", None)}
RIVALS = {("hf-dense-onnx-int8", None), ("hf-dense-onnx-int8-again", None)}
SORTED = {("hf-dense-sorted", None)}


@dataclass(frozen=True)
class Prepared:
    """What a timing job reads."""

    study: Study
    systems: list[TimedSystem]
    dev: Path
    folder: Path


@pytest.fixture(scope="module", autouse=True)
def any_precision() -> Iterator[None]:
    with tiny.any_precision():
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two tiny systems, two that run their weights in other precisions, and two seeds, with their traces."""
    folder = tmp_path_factory.mktemp("timing")
    trained = tiny.study()
    rows = trained.model_dump(mode="json", by_alias=True)["systems"]
    study = tiny.study(
        seeds=list(SEEDS),
        systems=rows
        | {
            "dense-half": {"weights_of": "dense", "precision": "bfloat16"},
            "eat-int8": {
                "weights_of": "eat", "engine": "onnx", "precision": "int8", "reducer": {"kind": "none"},
                "exits": {"tau": [0.7]},
            },
        },
        timing={"texts": TEXTS, "batch_sizes": [1, 4], "block_texts": BLOCK_TEXTS, "repeats": REPEATS, "passes": PASSES,
                "warmup": 2, "threads": 1, "deep_layers": 6, "stock": [
                    {"engine": "stock", "precision": "bfloat16"}, {"engine": "onnx", "precision": "int8"}
                ]},
    )  # fmt: skip
    tiny.split(folder / "dev.parquet", rows=24, seed=7)
    systems = []
    for seed in SEEDS:
        for name, row in trained.systems.items():
            model = tiny.model(
                row.exits.after,
                row.reducer.model_dump(),
                row.attention.model_dump(),
                row.exits.read,
                row.last_head,
                seed,
            )
            model.save_pretrained(folder / name / str(seed))
            tiny.save_tokenizer(folder / name / str(seed))
        for name in study.systems:
            model_folder = folder / study.models_of(name)[0][0] / str(seed)
            trace = folder / "traces" / name / str(seed) / "dev.parquet"
            record_trace([model_folder], study.parts(name), folder / "dev.parquet", tiny.UNNAMED, 32, name).write(trace)
            systems.append(TimedSystem(name, seed, [model_folder], trace, {2: 1.3}))
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
    single, batched = (timed.calls[timed.calls["batch_size"] == size] for size in (1, 4))
    assert points(single) == POINTS | RIVALS | STOCK | LATENCY_ALONE
    # the deeper stock model is timed for its latency only
    assert points(batched) == (POINTS | RIVALS | STOCK | LATENCY_ALONE | SORTED) - {("hf-dense-6", None)}
    assert (timed.calls["ms"] > 0).all()
    assert set(timed.calls["seed"]) == set(SEEDS)


def test_units_pair_across_systems(timed: TimingResult):
    calls = timed.calls
    texts = set(timed.state["texts"])
    for (size, seed, repeat), group in calls.groupby(["batch_size", "seed", "repeat"]):
        units = [
            rows.sort_values(["block", "unit"])[["unit", "block", "n"]].to_numpy().tolist()
            for _, rows in group.groupby(["system", "tau"], dropna=False)
        ]
        assert all(one == units[0] for one in units), (size, seed, repeat)
        if size == 1:
            assert len(units[0]) == TEXTS
            assert {unit for unit, _, _ in units[0]} == texts
            assert all(n == 1 for _, _, n in units[0])
        else:
            # all texts in each pass, so that sorting sorts them all
            assert units[0] == [[str(number), number, TEXTS] for number in range(PASSES)]
    assert set(calls.loc[calls["batch_size"] == 1, "repeat"]) == set(range(REPEATS))
    assert set(calls.loc[calls["batch_size"] == 4, "repeat"]) == {0}


def test_blocks_are_the_same_texts_in_each_repeat_in_another_order(timed: TimingResult):
    single = timed.calls[timed.calls["batch_size"] == 1]
    for _, rows in single.groupby(["system", "tau", "seed"], dropna=False):
        first, second = (repeat for _, repeat in rows.groupby("repeat"))
        members = [repeat.groupby("block")["unit"].agg(frozenset).to_dict() for repeat in (first, second)]
        assert members[0] == members[1]
        assert sorted(map(len, members[0].values())) == [3, 3, 4]
        assert first["unit"].tolist() != second["unit"].tolist()


def test_every_system_runs_a_block_before_any_runs_the_next(timed: TimingResult):
    """The order of systems within a block is drawn anew: a block is a turn of each, at any batch size."""
    for size, rows in timed.calls.groupby("batch_size"):
        blocks = list(zip(rows["repeat"], rows["block"], strict=True))
        turns = [block for index, block in enumerate(blocks) if index == 0 or blocks[index - 1] != block]
        assert len(turns) == len(set(turns)) == (REPEATS * BLOCKS if size == 1 else PASSES)
        orders = {
            tuple(zip(turn["system"], turn["tau"].fillna(0), turn["seed"], strict=True))
            for _, turn in rows.drop_duplicates(["repeat", "block", "system", "tau", "seed"]).groupby(
                ["repeat", "block"]
            )
        }
        assert len(orders) == len(turns)


def test_answers_are_compared_with_the_trace(timed: TimingResult):
    agreement = pd.DataFrame(timed.state["agreement"])
    assert list(agreement.columns) == ["system", "seed", "tau", "batch_size", "compared", "different", "allowed"]
    assert (agreement["compared"] == TEXTS).all()
    exact = ~agreement["system"].isin(["dense-half", "eat-int8", "hf-dense-onnx-int8", "hf-dense-onnx-int8-again"])
    assert (agreement.loc[exact, "different"] == 0).all()
    assert (agreement["different"] <= agreement["allowed"]).all()
    # the deeper model has random weights and the stock one in other precisions no trace of its own
    for size, rows in agreement.groupby("batch_size"):
        assert points(rows) == POINTS | RIVALS | STOCK | (SORTED if size == 4 else set())
        assert len(rows) == len(SEEDS) * len(points(rows))


def test_stock_precisions_are_rows_without_an_expected_answer(prepared: Prepared):
    timed = prepared.systems[0]
    assert timed.system == "dense"
    texts = TimedTexts(prepared.dev, timed.models[0], 32, TEXTS)
    entries = {entry.system: entry for entry in reference_entries(prepared.study, timed, texts, torch.device("cpu"))}
    assert {(name, None) for name in entries} == STOCK | SORTED | LATENCY_ALONE
    assert {(name, None) for name, entry in entries.items() if entry.expected is None} == LATENCY_ALONE
    assert {name: entry.precision for name, entry in entries.items() if entry.precision != "float32"} == {
        "hf-dense-bfloat16": "bfloat16",
    }
    assert {name: entry.sizes for name, entry in entries.items() if entry.sizes != "all"} == {
        "hf-dense-sorted": "larger",
        "hf-dense-6": "one",
    }
    with torch.inference_mode():
        for name, entry in entries.items():
            run = entry.run(entry.texts[:3])
            assert run.depth() == [6 if name == "hf-dense-6" else 4] * 3


def test_a_reference_may_be_the_dense_run_of_adaptive_weights(tmp_path: Path):
    parts = {"reducer": {"kind": "norm", "after": [1, 3], "ratio": 0.3}, "attention": {"kind": "window", "left": 3}}
    eat = {"backbone": "tiny", "last_head": "bert", "exits": {"after": [2], "rule": ["confidence"], "tau": [0.6]}}
    plain = {"weights_of": "eat", "reducer": {"kind": "none"}, "attention": {"kind": "dense"}}
    plain |= {"exits": {"after": [], "rule": [], "tau": []}}
    study = tiny.study(reference="plain", systems={"eat": eat | parts, "plain": plain}, timing={"deep_layers": 6})
    row = study.systems["eat"]
    model = tiny.model([2], row.reducer.model_dump(), row.attention.model_dump(), last_head="bert")
    model.save_pretrained(tmp_path / "model")
    tiny.save_tokenizer(tmp_path / "model")
    tiny.split(tmp_path / "dev.parquet", rows=12, seed=7)
    record_trace([tmp_path / "model"], study.parts("plain"), tmp_path / "dev.parquet", tiny.UNNAMED, 32, "plain").write(
        tmp_path / "trace.parquet"
    )
    timed = TimedSystem("plain", 1, [tmp_path / "model"], tmp_path / "trace.parquet", {})
    texts = TimedTexts(tmp_path / "dev.parquet", timed.models[0], 32, 8)
    entries = reference_entries(study, timed, texts, torch.device("cpu"))
    with torch.inference_mode():
        run = entries[0].run(entries[0].texts)
    expected = entries[0].expected
    assert entries[0].system == "hf-dense"
    assert expected is not None
    assert run.classes == [expected.replay.predictions[expected.row[text]] for text in texts.ids]


def test_a_system_in_another_precision_is_timed_against_its_own_trace(prepared: Prepared, tmp_path: Path):
    """Each derived system is timed with its own parts; that of another is refused, and its answers do not agree."""
    for name in ("dense-half", "eat-int8"):
        own = next(one for one in prepared.systems if one.system == name)
        assert Trace.read(own.trace).shape["precision"] == prepared.study.parts(name).precision
    derived = next(one for one in prepared.systems if one.system == "eat-int8")
    base = next(one for one in prepared.systems if one.system == "eat")
    assert derived.models == base.models
    texts = TimedTexts(prepared.dev, derived.models[0], 32, TEXTS)
    (entry,) = entries_of(prepared.study, derived, texts, torch.device("cpu"))
    assert (entry.precision, entry.tau) == ("int8", 0.7)
    with torch.inference_mode():
        run = entry.run(entry.texts)
    # it has no reducer: every token enters every layer that ran, which `eat` itself removes some of
    lengths = [len(text.ids) for text in entry.texts]
    assert run.tokens() == [length * depth for length, depth in zip(lengths, run.depth(), strict=True)]
    with pytest.raises(EatError, match=r"^eat-int8: traced on cpu in float32, but timed on cpu in int8; "):
        time_task(prepared.study, "tiny", [prepared.systems[0], replace(derived, trace=base.trace)], prepared.dev)
    disguised = Trace.read(base.trace)
    disguised.shape["precision"] = "int8"
    disguised.write(tmp_path / "dev.parquet")
    other = replace(derived, trace=tmp_path / "dev.parquet")
    with pytest.raises(EatError, match=r"eat-int8 at tau 0\.7, batch 1: .* answered differently"):
        time_task(prepared.study, "tiny", [prepared.systems[0], other], prepared.dev)


def test_the_dense_rival_in_onnx_runtime_is_traced_and_timed_like_a_system(prepared: Prepared, timed: TimingResult):
    own = next(one for one in prepared.systems if one.system == "hf-dense-onnx-int8")
    shape = Trace.read(own.trace).shape
    assert (shape["engine"], shape["precision"], shape["exits"]) == ("onnx", "int8", [4])
    assert own.models == next(one for one in prepared.systems if one.system == "dense").models
    # its second run is its own noise floor
    assert points(timed.calls) >= RIVALS


def save_letter_tokenizer(folder: Path) -> None:
    """Put in place of a folder's tokenizer one that knows no whole word: each becomes several pieces."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = dict(content["model"]["vocab"])
    for word in [word for word in vocabulary if word.startswith("word")]:
        vocabulary[f"##{word[4:]}"] = vocabulary.pop(word)  # "##12" in place of "word12"
    vocabulary["word"] = vocabulary.pop(tiny.GOOD[0])
    content["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    path.write_text(json.dumps(content), encoding="utf-8")


def test_each_system_gets_the_tokens_of_its_own_tokenizer(prepared: Prepared, tmp_path: Path):
    first = next(one for one in prepared.systems if one.system == "eat")
    other = tmp_path / "model"
    shutil.copytree(first.models[0], other)
    save_letter_tokenizer(other)
    trace = tmp_path / "dev.parquet"
    record_trace([other], prepared.study.parts("eat"), prepared.dev, tiny.UNNAMED, 32, "eat").write(trace)
    texts = TimedTexts(prepared.dev, first.models[0], 32, TEXTS)
    ours, theirs = texts.encoded_for(first.models[0]), texts.encoded_for(other)
    table = pd.read_parquet(prepared.dev).set_index("id").loc[texts.ids].reset_index()
    for model, found in ((first.models[0], ours), (other, theirs)):
        expected = encode_split(load_tokenizer(model), table, 32)
        assert [text.ids.tolist() for text in found] == [text.ids.tolist() for text in expected]
    assert all(len(one.ids) < len(two.ids) for one, two in zip(ours, theirs, strict=True))
    assert texts.encoded_for(prepared.systems[0].models[0]) is ours  # the same tokenizer cuts once
    # and the gate lets both pass in one job, each against its own trace
    result = time_task(
        prepared.study, "tiny", [prepared.systems[0], replace(first, models=[other], trace=trace)], prepared.dev
    )
    agreement = pd.DataFrame(result.state["agreement"])
    assert (agreement["different"] == 0).all()
    assert {"dense", "eat", "hf-dense"} <= set(agreement["system"])
    assert result.state["tokens_mean"] == pytest.approx(np.mean([len(text.ids) for text in ours]))


def test_the_state_tells_what_the_times_were_taken_on(timed: TimingResult, tmp_path: Path):
    state = timed.state
    write_json(tmp_path / "state.json", state)  # holds no NaN, nothing that JSON cannot say
    assert isinstance(state["busy"], bool)
    assert state["foreign_load"] >= 0
    assert state["foreign_load_busiest_block"] >= 0
    assert state["stock_attention"] == "sdpa"
    assert (state["task"], state["device"], state["threads"]) == ("tiny", "cpu", 1)
    assert state["precisions"] == {
        **dict.fromkeys(("dense", "eat", "hf-dense", "hf-dense-again", "hf-dense-sorted", "hf-dense-6"), "float32"),
        "dense-half": "bfloat16",
        "hf-dense-bfloat16": "bfloat16",
        **dict.fromkeys(("eat-int8", "hf-dense-onnx-int8", "hf-dense-onnx-int8-again"), "int8"),
    }
    stock = ("hf-dense", "hf-dense-again", "hf-dense-sorted", "hf-dense-6", "hf-dense-bfloat16")
    assert state["engines"] == {
        **dict.fromkeys(("dense", "eat", "dense-half"), "torch"),
        **dict.fromkeys(stock, "stock"),
        **dict.fromkeys(("eat-int8", "hf-dense-onnx-int8", "hf-dense-onnx-int8-again"), "onnx"),
    }
    assert state["n_timed"] == len(state["texts"]) == TEXTS
    assert state["tokenization_ms_per_text"] > 0
    assert len(state["load_average"]) == 2
    assert state["machine"].keys() >= {"cpu", "cores", "memory_gib", "platform"}
    assert state["versions"]["torch"] == torch.__version__


def test_a_model_that_is_not_the_traced_one_is_refused(prepared: Prepared):
    first, second = (one for one in prepared.systems if one.system == "eat")
    mixed = [prepared.systems[0], replace(first, trace=second.trace)]
    with pytest.raises(
        EatError, match=r"eat at tau .*, batch 1: .* texts were answered differently .* make both again"
    ):
        time_task(prepared.study, "tiny", mixed, prepared.dev)


def test_temperatures_are_part_of_the_operating_point(prepared: Prepared):
    # at a temperature of 50 all probabilities are near 1/2: nobody is certain enough, and all run to the end
    flat = replace(prepared.systems[1], temperatures={2: 50.0})
    timed_texts = TimedTexts(prepared.dev, flat.models[0], 32, TEXTS)
    entries = entries_of(prepared.study, flat, timed_texts, torch.device("cpu"))
    texts = tiny.texts([9, 14])
    with torch.inference_mode():
        assert [entry.run(texts).depth() for entry in entries] == [[4, 4], [4, 4]]
    for entry in entries:
        assert entry.expected is not None
        assert set(entry.expected.replay.depth) == {4}


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 3))
def test_blocks_hold_every_text_once_a_repeat(count: int, block_texts: int, repeats: int):
    options = Timing(block_texts=block_texts, repeats=repeats)
    rounds = _rounds(count, 1, options, random.Random(0))
    found: dict[int, dict[int, list[int]]] = {}
    for repeat, block, rows in rounds:
        assert block not in found.setdefault(repeat, {})
        found[repeat][block] = sorted(rows)
    assert set(found) == set(range(repeats))
    assert all(blocks == found[0] for blocks in found.values())
    sizes = [len(rows) for rows in found[0].values()]
    assert 1 <= min(sizes) <= max(sizes) <= block_texts
    assert max(sizes) - min(sizes) <= 1  # no block of few texts is left over
    assert sorted(row for rows in found[0].values() for row in rows) == list(range(count))


def test_a_pass_is_all_texts_in_a_new_order():
    rounds = _rounds(30, 4, Timing(passes=5, repeats=3), random.Random(0))
    assert [(repeat, block) for repeat, block, _ in rounds] == [(0, number) for number in range(5)]
    assert all(sorted(rows) == list(range(30)) for _, _, rows in rounds)
    assert len({tuple(rows) for _, _, rows in rounds}) == 5


def test_a_pass_of_fewer_texts_is_a_new_sample_each_time():
    rounds = _rounds(30, 4, Timing(passes=5, pass_texts=12), random.Random(0))
    assert [len(set(rows)) for _, _, rows in rounds] == [12] * 5
    assert len({tuple(sorted(rows)) for _, _, rows in rounds}) == 5
    assert [len(rows) for _, _, rows in _rounds(9, 4, Timing(passes=2, pass_texts=12), random.Random(0))] == [9, 9]
    assert sorted(_rounds(30, 1, Timing(pass_texts=12, block_texts=30, repeats=1), random.Random(0))[0][2]) == list(
        range(30)
    )


def test_a_block_longer_than_the_texts_is_all_of_them(prepared: Prepared):
    options = prepared.study.timing.model_copy(update={"texts": 8, "block_texts": 20, "repeats": 1})
    study = prepared.study.model_copy(update={"timing": options})
    calls = time_task(study, "tiny", prepared.systems[:1], prepared.dev).calls
    assert set(calls.loc[calls["batch_size"] == 1, "block"]) == {0}
    assert (calls["n"] > 0).all()


def test_a_gpu_that_is_not_there(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = prepared.study.timing.model_copy(update={"device": "cuda"})
    study = prepared.study.model_copy(update={"timing": options})
    with pytest.raises(EatError, match=r"timing\.device is cuda, but torch finds no GPU here; set it to cpu or auto"):
        time_task(study, "tiny", prepared.systems, prepared.dev)


@pytest.mark.parametrize("key", ["device", "precision"])
@pytest.mark.parametrize("system", ["dense", "eat"])
def test_a_trace_of_another_setting_is_refused_before_anything_is_timed(
    prepared: Prepared, tmp_path: Path, system: str, key: str
):
    (timed,) = [one for one in prepared.systems if (one.system, one.seed) == (system, SEEDS[0])]
    trace = Trace.read(timed.trace)
    trace.shape[key] = {"device": "cuda", "precision": "float16"}[key]
    trace.write(tmp_path / "dev.parquet")
    other = [replace(one, trace=tmp_path / "dev.parquet") if one is timed else one for one in prepared.systems]
    traced = {"device": "cuda in float32", "precision": "cpu in float16"}[key]
    with pytest.raises(EatError) as error:
        time_task(prepared.study, "tiny", other, prepared.dev)
    assert str(error.value) == (
        f"{system}: traced on {traced}, but timed on cpu in float32; a trace and its clock need one device and one "
        "precision: set trace.device and timing.device alike, and trace again"
    )


def test_a_gpu_that_is_there_is_not_taken_unasked(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = prepared.study.timing.model_copy(update={"texts": 8, "batch_sizes": [1], "repeats": 1})
    study = prepared.study.model_copy(update={"timing": options})
    state = time_task(study, "tiny", prepared.systems[: len(study.systems)], prepared.dev).state
    assert (state["device"], state["machine"]["gpu"]) == ("cpu", None)


def test_each_step_of_the_clock_says_what_is_left(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    time_task(prepared.study, "tiny", prepared.systems[:1], prepared.dev)
    said = [re.sub(r"\d+", "N", line) for line in capsys.readouterr().err.splitlines()]
    assert "tiny: loaded N of N models, N s left" in said
    assert {line.split(", ", 1)[1] for line in said if line.startswith("tiny, batch")} == {
        "batch N: warmed up with N of N calls, N s left",
        "batch N: timed N of N answers, N s left",
    }


def refuse(monkeypatch: pytest.MonkeyPatch, *refused: tuple[str, bool]) -> None:
    """Let this machine refuse these precisions, of stock models or of ours."""
    monkeypatch.setattr(
        "eat.engines.precision._fault",
        lambda precision, device, stock: "takes 7 times as long as float32" if (precision, stock) in refused else None,
    )


def test_a_stock_row_in_a_refused_precision_is_left_out_and_named(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    refuse(monkeypatch, ("bfloat16", True))
    result = time_task(prepared.study, "tiny", prepared.systems, prepared.dev)
    assert {"dense-half", "eat-int8", "hf-dense-onnx-int8"} <= set(result.calls["system"])
    assert "hf-dense-bfloat16" not in set(result.calls["system"]) | set(result.state["precisions"])
    (reason,) = result.state["left_out"].values()
    assert list(result.state["left_out"]) == ["hf-dense-bfloat16"]
    assert reason.startswith(
        f"precision bfloat16 takes 7 times as long as float32 on this processor ({cpu_name()}); use"
    )
    assert f"tiny: hf-dense-bfloat16 is not timed: {reason}\n" in capsys.readouterr().err


def test_a_system_in_a_refused_precision_ends_the_job_before_the_clock(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    refuse(monkeypatch, ("bfloat16", False))
    monkeypatch.setattr(clock, "TimedTexts", None)  # nothing is read
    with pytest.raises(
        EatError, match=r"^precision bfloat16 takes 7 times as long as float32 on .*; use float32, omit it, or use "
    ):
        time_task(prepared.study, "tiny", prepared.systems, prepared.dev)


def test_the_state_tells_in_what_each_system_was_trained(prepared: Prepared, tmp_path: Path):
    for number, setting in enumerate(({}, {"device": "cpu", "precision": "float32"})):
        write_json(tmp_path / str(number) / "config.json", {"trained": setting})
    folders = [tmp_path / "0", tmp_path / "1"]
    old, new = (
        replace(prepared.systems[0], system=name, models=folders[:count]) for name, count in (("a", 1), ("b", 2))
    )
    assert trained_in([old, new, new]) == {"b": ["float32 on cpu"]}


def test_warm_up_meets_every_length():
    encoded = tiny.texts([5, 9, 5, 12, 9])
    calls = list(_warmup_batches(encoded, 1, at_least=7))
    assert len(calls) == 7
    assert {len(batch[0].ids) for batch in calls} == {5, 9, 12}
    assert [len(batch) for batch in _warmup_batches(encoded, 2, at_least=7)][:2] == [2, 2]


def test_a_model_is_warmed_up_once_by_its_deepest_point():
    one = Recording().entry()
    entries = [replace(one, system=system, tau=tau) for system, tau in (("a", 0.6), ("a", 0.9), ("b", None))]
    assert [len(batches) for batches in _warmup(entries, 1, Timing(warmup=4))] == [1, 5, 5]
    assert [len(batches) for batches in _warmup(entries, 2, Timing(warmup=4))] == [1, 3, 3]


@dataclass
class Recording:
    """An entry that always answers the same and notes the lengths of the texts of each call."""

    seen: list[list[int]] = field(default_factory=list)

    def entry(self) -> Entry:
        def run(texts: Sequence[Encoded]) -> Run:
            self.seen.append([len(text.ids) for text in texts])
            return FixedRun(len(texts))

        return Entry("x", 1, None, "torch", "float32", tiny.texts([5, 9, 6, 12, 7]), run)


def test_batches_are_cut_as_they_are_asked_for():
    recording = Recording()
    answers: dict[str, set[tuple[int, int, int]]] = {}
    ids = list("abcde")
    everything = Round(batch_size=2, repeat=0, block=1, rows=[0, 1, 2, 3, 4])
    calls = _time_round(recording.entry(), everything, ids, answers, Progress("timed"))
    assert recording.seen == [[5, 9], [6, 12], [7]]
    assert [(call["repeat"], call["block"], call["unit"], call["n"]) for call in calls] == [(0, 1, "1", 5)]
    recording.seen.clear()
    _time_round(replace(recording.entry(), sort=True), everything, ids, answers, Progress("timed"))
    assert recording.seen == [[5, 6], [7, 9], [12]]
    assert answers == {text: {(0, 4, 0)} for text in ids}


def test_a_turn_at_batch_1_begins_with_a_call_that_does_not_count():
    recording = Recording()
    answers: dict[str, set[tuple[int, int, int]]] = {}
    calls = _time_round(recording.entry(), Round(1, 2, 7, [3, 0, 4]), list("abcde"), answers, Progress("timed"))
    assert recording.seen == [[12], [12], [5], [7]]
    assert [(call["repeat"], call["block"], call["unit"], call["n"]) for call in calls] == [
        (2, 7, "d", 1), (2, 7, "a", 1), (2, 7, "e", 1),
    ]  # fmt: skip
    assert answers.keys() == set("dae")
