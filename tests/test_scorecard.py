"""The papers' claims: each test by hand, with figures that support it, refute it, or do not suffice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_results import DENSE, EAT, STUDENT, Made, Row, write_study

from eat import rounding
from eat.errors import EatError
from eat.report import scorecard
from eat.report.claims import Paper, read_paper
from eat.report.evidence import Evidence
from eat.report.gpu_run import gpu_evidence
from eat.report.published import read_published
from eat.results.noise import NoiseFloor
from eat.study.paths import CLAIMS

REPORT = Path(__file__).parents[1] / "report"
PUBLISHED = read_published(REPORT / "published.yaml")
EAT_PAPER, PYRAMID, ADAPLER = (read_paper(REPORT / file) for file in CLAIMS)
PLAYERS = {"bert": "dense-6", "distilbert": "student-3", "eat": "eat-6"}


def evidence(
    root: Path, made: Made | None = None, task: str = "sst2", players: dict[str, str] | None = None
) -> Evidence:
    results, _ = write_study(root, (task,), made or Made(systems=(DENSE, STUDENT, EAT)))
    summary = pd.read_csv(results / "summary.csv")
    curves = {name: pd.read_csv(results / "curves" / f"{name}.csv") for name in ("exits", "lengths")}
    noise = NoiseFloor(1.0, 0.98, 1.02, 1.0)
    return Evidence(
        task, summary[summary.batch_size == 1], curves["exits"], curves["lengths"], noise, players or PLAYERS
    )


def verdict_of(test: dict[str, Any], seen: Evidence) -> scorecard.Judged:
    claim = {"claim": "It is so.", "where": "section 0", "test": test}
    paper = Paper.model_validate({"name": "None", "citation": "nobody", "models": ["eat"], "claims": [claim]})
    (judged,) = scorecard.judge(paper, [seen], PUBLISHED)
    return judged


KEPT = "retention_full_depth"
FAST = Made(systems=(DENSE, STUDENT, replace(EAT, speedup=3.0)))
SLOW = Made(systems=(DENSE, STUDENT, replace(EAT, speedup=0.5)))
WORSE = Made(systems=(DENSE, STUDENT, replace(EAT, delta=-0.05, chosen=0)))
LEVEL = Made(systems=(DENSE, STUDENT, replace(EAT, speedup=1.0)))
OPEN = "cannot be tested here"
EVEN = Made(systems=(DENSE, STUDENT, replace(EAT, delta=-0.001, chosen=0)))


@pytest.mark.parametrize(
    ("test", "made", "expected"),
    [
        ({"kind": "speed", "model": "eat", "expect": "slower"}, FAST, "not reproduced"),
        ({"kind": "speed", "model": "eat", "expect": "slower"}, SLOW, "reproduced"),
        # the interval includes 1
        ({"kind": "speed", "model": "eat", "expect": "slower"}, LEVEL, OPEN),
        ({"kind": "speed_against", "model": "eat", "other": "bert", "expect": "faster"}, FAST, "reproduced"),
        ({"kind": "speed_against", "model": "distilbert", "other": "eat", "expect": "faster"}, SLOW, "reproduced"),
        ({"kind": "accuracy_against", "model": "eat", "other": "bert", "expect": "lower"}, WORSE, "reproduced"),
        ({"kind": "accuracy_against", "model": "eat", "other": "bert", "expect": "higher"}, WORSE, "not reproduced"),
        # -0.1 +- 0.9 points
        ({"kind": "accuracy_against", "model": "eat", "other": "bert", "expect": "lower"}, EVEN, OPEN),
        # 2.1 +- 0.9 points below .853: 96.5 % to 98.6 % of it
        ({"kind": "keeps_accuracy", "model": "distilbert", "part": 0.97}, FAST, "cannot be tested here"),
        ({"kind": "keeps_accuracy", "model": "distilbert", "part": 0.95}, FAST, "reproduced"),
        ({"kind": "keeps_accuracy", "model": "distilbert", "part": 0.99}, FAST, "not reproduced"),
        ({"kind": "frontier", "model": "eat"}, FAST, "reproduced"),
        # full depth leaves .521 of the tokens in the made-up study
        ({"kind": "near", "model": "eat", "column": KEPT, "value": 0.49, "within": 0.05}, FAST, "reproduced"),
        ({"kind": "near", "model": "eat", "column": KEPT, "value": 0.49, "within": 0.01}, FAST, "not reproduced"),
        ({"kind": "leaves_early", "model": "eat", "tau": 0.9, "at_least": 0.1}, FAST, "reproduced"),
        ({"kind": "leaves_early", "model": "eat", "tau": 0.9, "at_least": 0.9}, FAST, "not reproduced"),
        ({"kind": "leaves_early", "model": "eat", "tau": 0.5, "at_least": 0.1}, FAST, "cannot be tested here"),
        ({"kind": "short_texts_lose_more", "model": "eat"}, FAST, "not reproduced"),
        # raw .061, after scaling at most .0185
        ({"kind": "scaling_helps", "model": "eat"}, FAST, "reproduced"),
        ({"kind": "norm_is_competitive"}, FAST, OPEN),
    ],
)  # fmt: skip
def test_verdicts_by_hand(tmp_path: Path, test: dict[str, Any], made: Made, expected: str) -> None:
    judged = verdict_of(test, evidence(tmp_path, made))
    assert judged.verdict == expected, judged
    assert judged.reason.endswith(".")


# --- systems of other papers --------------------------------------------------------------------------------------

TAUS = (0.20, 0.50, 0.90)
LTP = Row("ltp", 1.1, -0.001, retention=0.5)
FASTBERT = Row("fastbert", 2.0, -0.002, 3.2, 1.0, TAUS, (1, 2, 3, 4, 5, 6), chosen=1)
PYRAMID_ROW = Row("magic-pyramid", 3.0, -0.004, 3.0, 0.6, TAUS, (1, 2, 3, 4, 5, 6), chosen=1)
PRUNED = {"bert": "dense-6", "ltp": "ltp", "fastbert": "fastbert", "magic-pyramid": "magic-pyramid"}


def pruned(root: Path, ours: Row = PYRAMID_ROW, task: str = "ag_news") -> Evidence:
    """A study with LTP, FastBERT and Magic Pyramid, of which two lengths can be compared."""
    made = Made(systems=(DENSE, LTP, FASTBERT, ours))
    seen = evidence(root, made, task, PRUNED)
    buckets = pd.read_csv(root / "results" / "synthetic" / "buckets.csv")
    return replace(seen, buckets=buckets[buckets["chosen"]])


BOTH: dict[str, Any] = {"kind": "cheaper_against", "model": "magic-pyramid", "other": "fastbert"}
LENGTH: dict[str, Any] = {"kind": "speed_on_length", "model": "magic-pyramid"}
AT: dict[str, Any] = {"kind": "speed_against", "model": "magic-pyramid", "other": "fastbert", "expect": "faster"}


@pytest.mark.parametrize(
    ("test", "changes", "expected"),
    [
        # +0.3 +- 0.9 points against +0.4 +- 0.9: -0.1 +- 1.3 points
        (BOTH | {"loses_at_most": 0.005}, {}, OPEN),
        (BOTH | {"loses_at_most": 0.02}, {}, "reproduced"),
        (BOTH | {"loses_at_most": 0.0}, {}, OPEN),
        (BOTH | {"loses_at_most": 0.02}, {"delta": -0.05}, "not reproduced"),
        # more FLOPs refute it, whatever the accuracy
        (BOTH | {"loses_at_most": 0.02}, {"speedup": 1.5}, "not reproduced"),
        (AT | {"tau": 0.9}, {}, "reproduced"),
        (AT | {"tau": 0.9}, {"speedup": 1.2}, "not reproduced"),
        (AT | {"tau": 0.7}, {}, OPEN),
        # pruning gains 0.81 on the short and 0.91 on the long texts, exits 1.48 and 1.38, each +- 2 %
        ({"kind": "gain_by_length", "model": "ltp", "greater_on": "long"}, {}, "reproduced"),
        ({"kind": "gain_by_length", "model": "ltp", "greater_on": "short"}, {}, "not reproduced"),
        ({"kind": "gain_by_length", "model": "fastbert", "greater_on": "short"}, {}, "reproduced"),
        ({"kind": "gain_by_length", "model": "magic-pyramid", "greater_on": "long"}, {}, OPEN),
        (LENGTH | {"other": "ltp", "texts": "short", "expect": "faster"}, {"speedup": 1.3}, "reproduced"),
        # 1.33 against 1.38
        (LENGTH | {"other": "fastbert", "texts": "long", "expect": "faster"}, {"speedup": 1.8}, OPEN),
        (LENGTH | {"other": "fastbert", "texts": "long", "expect": "faster"}, {"speedup": 1.5}, "not reproduced"),
    ],
)
def test_verdicts_on_other_papers_by_hand(
    tmp_path: Path, test: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    judged = verdict_of(test, pruned(tmp_path, replace(PYRAMID_ROW, **changes)))
    assert judged.verdict == expected, judged
    assert judged.reason.endswith(".")


def test_two_differences_from_the_reference_make_the_interval_of_their_difference(tmp_path: Path) -> None:
    """Half widths of 0.9 points each: 0.9 times the square root of 2 is 1.3."""
    judged = verdict_of(BOTH | {"loses_at_most": 0.02}, pruned(tmp_path))
    assert judged.ours.endswith(f"{rounding.MINUS}0.1 points [{rounding.MINUS}1.4, +1.2]"), judged.ours


def test_lengths_that_cannot_be_compared_and_a_missing_threshold_are_told(tmp_path: Path) -> None:
    seen = pruned(tmp_path)
    test = {"kind": "gain_by_length", "model": "ltp", "greater_on": "long"}
    assert verdict_of(test, replace(seen, buckets=pd.DataFrame())).reason == (
        "Too few texts of different lengths were timed in ltp."
    )
    assert verdict_of(AT | {"tau": 0.7}, seen).reason == "magic-pyramid has no threshold 0.70."


SCORES = pd.DataFrame(
    [
        *(("adapler", "predictor", layer, 0.5, 0.45, 0.55) for layer in (1, 2, 3)),
        *(("prune-received", "received", layer, 0.3, 0.25, 0.35) for layer in (2, 4)),
        ("ltp", "threshold", 2, 0.52, 0.47, 0.57),
        ("prune-norm", "norm", 2, 0.9, 0.85, 0.95),
    ],
    columns=["system", "kind", "layer", "rho", "rho_low", "rho_high"],
)


@pytest.mark.parametrize(
    ("others", "without", "expected", "reason"),
    [
        (["received"], [], "reproduced", "above that of prune-received."),
        (["received", "threshold"], [], OPEN, "above that of prune-received; not shown to differ from that of ltp."),
        (["received", "norm"], [], "not reproduced", "above that of prune-received; below that of prune-norm."),
        (["retention"], [], OPEN, "This needs systems with the scores predictor and retention."),
        (["received"], [2], OPEN, "adapler and prune-received score no layer in common."),
    ],
)
def test_scores_are_compared_in_layers_that_both_score(
    tmp_path: Path, others: list[str], without: list[int], expected: str, reason: str
) -> None:
    scores = SCORES[~SCORES["layer"].isin(without)]
    test = {"kind": "score_against", "score": "predictor", "others": others}
    judged = verdict_of(test, replace(evidence(tmp_path), importance=scores))
    assert judged.verdict == expected and judged.reason.endswith(reason), judged
    unscored = verdict_of(test, evidence(tmp_path))
    assert unscored.reason == "The study does not compare scores with saliency; set importance_texts."


def test_a_claim_shows_the_figures_of_the_table_that_it_names(tmp_path: Path) -> None:
    """Tables 3 and 4 of Magic Pyramid, AG News: 4.95x and 3.97x at 94.3 %; at 0.1, which is 0.9 here, the same."""
    judged = scorecard.judge(PYRAMID, [pruned(tmp_path)], PUBLISHED)
    fewer = "times fewer FLOPs"
    assert judged[0].published == (
        f"Magic Pyramid: 4.95 {fewer}; FastBERT: 3.97 {fewer}; Magic Pyramid: 94.3 %; FastBERT: 94.3 %"
    )
    at = next(one for one in judged if one.claim.where == "section 4 and table 4")
    assert at.published == f"Magic Pyramid at 0.90: 4.95 {fewer}; FastBERT at 0.90: 3.97 {fewer}"


@pytest.mark.parametrize("paper", [EAT_PAPER, PYRAMID, ADAPLER], ids=lambda paper: paper.name)
def test_every_figure_of_a_claim_is_published_and_every_model_can_be_represented(paper: Paper) -> None:
    tables = {table.title: table for table in PUBLISHED.tables_of(paper.citation)}
    for claim in paper.claims:
        for figure in claim.published:
            table = tables[figure.table or next(iter(tables))]
            rows = [row for models in table.tasks.values() for row in models.get(figure.model, [])]
            assert [row for row in rows if figure.tau in (None, row.tau) and getattr(row, figure.column) is not None]
        models = {getattr(claim.test, name, "bert") for name in ("model", "other")}
        assert models <= {"bert", *PUBLISHED.stands_for}
    assert not any(task not in PUBLISHED.task_names for task in {claim.task for claim in paper.claims} - {""})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["competitive", "competitive"], "reproduced"),
        (["competitive", "undecided"], OPEN),
        (["competitive", "not competitive"], "not reproduced"),
    ],
)
def test_the_norm_is_judged_by_all_that_was_compared(tmp_path: Path, found: list[Any], expected: str) -> None:
    seen = replace(evidence(tmp_path), norm=[(verdict, f"It is {verdict}.") for verdict in found])
    judged = verdict_of({"kind": "norm_is_competitive"}, seen)
    assert (judged.verdict, judged.reason) == (expected, " ".join(f"It is {verdict}." for verdict in found))


def scaled(seen: Evidence, **values: Any) -> Evidence:
    return replace(seen, rows=seen.rows.assign(**values))


def test_scaling_is_judged_by_errors_of_one_kind(tmp_path: Path) -> None:
    """The plain error after is .03, the debiased one .02 [.01, .035]: before, .046 is above .045, .019 below .02."""
    seen = evidence(tmp_path)
    after = {"ece_calibrated": 0.03, "ece_debiased": 0.02, "ece_debiased_low": 0.01, "ece_debiased_high": 0.035}
    for before, expected in ((0.046, "reproduced"), (0.04, OPEN), (0.019, "not reproduced")):
        judged = verdict_of({"kind": "scaling_helps", "model": "eat"}, scaled(seen, ece_raw=before, **after))
        assert judged.verdict == expected, judged
    unscaled = verdict_of({"kind": "scaling_helps", "model": "eat"}, scaled(seen, calibration="raw"))
    assert (unscaled.verdict, unscaled.reason) == (OPEN, "The probabilities of eat-6 are not scaled.")


def test_texts_are_counted_once_however_many_the_seeds(tmp_path: Path) -> None:
    test = {"kind": "leaves_early", "model": "eat", "tau": 0.9, "at_least": 0.1}
    seen = evidence(tmp_path)
    once = verdict_of(test, seen)
    thrice = replace(seen, rows=seen.rows.assign(seeds=3), exits=seen.exits.assign(n=3 * seen.exits["n"]))
    assert verdict_of(test, thrice).ours == once.ours


def test_a_model_that_nobody_plays_cannot_be_tested(tmp_path: Path) -> None:
    seen = evidence(tmp_path, players={"bert": "dense-6"})
    judged = verdict_of({"kind": "speed", "model": "eat", "expect": "slower"}, seen)
    assert (judged.verdict, judged.reason) == ("cannot be tested here", "No system of this study represents EAT.")


def test_a_claim_about_a_task_is_tested_on_that_task_alone(tmp_path: Path) -> None:
    judged = scorecard.judge(EAT_PAPER, [evidence(tmp_path)], PUBLISHED)
    about = {one.claim.task: (one.task, one.verdict) for one in judged if one.claim.task}
    assert about["SST-2"][0] == "sst2" and about["SST-2"][1] != "cannot be tested here"
    assert about["MNLI"] == ("", "cannot be tested here")
    published = next(one.published for one in judged if one.claim.task == "SST-2")
    assert published == f"EAT: 90.3{rounding.DASH}90.5 %; DistilBERT: 90.4 %"  # table 1 of the paper


def test_a_task_of_another_paper_alone_has_the_paper_s_figures_of_all_its_tasks(tmp_path: Path) -> None:
    told = [
        [one.published for one in scorecard.judge(EAT_PAPER, [evidence(tmp_path / task, task=task)], PUBLISHED)]
        for task in ("mrpc", "rotten_tomatoes")
    ]
    assert told[0] == told[1]
    assert any("EAT: " in one and rounding.DASH not in one.split("EAT: ")[1][:2] for one in told[0])


def test_every_claim_stands_in_the_table_with_its_verdict(tmp_path: Path) -> None:
    judged = scorecard.judge(EAT_PAPER, [evidence(tmp_path, task="rotten_tomatoes")], PUBLISHED)
    table = scorecard.scorecard_table(EAT_PAPER, judged)
    assert sum(len(group.rows) for group in table.groups) == len(EAT_PAPER.claims)
    assert [group.heading for group in table.groups] == [
        "rotten_tomatoes",
        "Claims that no task of this study can test",
    ]
    counts = scorecard.counts_sentence(judged)
    assert counts.startswith(f"{len(EAT_PAPER.claims)} claims") and "cannot be tested here" in counts


HEAD = "name: a\ncitation: b\nmodels: [eat]\n"


# --- on a GPU -----------------------------------------------------------------------------------------------------

ON_GPU = (
    ("hf-dense-again", "hf-dense", 1, (1.0, 0.98, 1.02)),
    ("dense-6", "hf-dense", 1, (1.2, 1.1, 1.3)),
    ("student-3", "hf-dense", 1, (1.9, 1.8, 2.0)),
    ("eat-6", "hf-dense", 1, (0.6, 0.55, 0.65)),
    # none of these is on a latency over the stock model at batch 1
    ("eat-6", "dense-6", 1, (7.0, 7.0, 7.0)),
    ("eat-6", "hf-dense", 32, (8.0, 8.0, 8.0)),
)


def gpu_file(path: Path, **changes: Any) -> Path:
    rows = [
        {
            "system": system,
            "over": over,
            "batch_size": size,
            "speedup": middle,
            "speedup_low": low,
            "speedup_high": high,
        }
        for system, over, size, (middle, low, high) in ON_GPU
    ]
    shared = {"text": "SST-2", "device": "cuda", "card": "NVIDIA T1", "driver": None, **changes}
    pd.DataFrame(rows).assign(**shared).to_csv(path, index=False)
    return path


def gpu_of(test: dict[str, Any], root: Path, run: Any) -> str:
    claim = {"claim": "It is so.", "where": "section 0", "test": test}
    paper = Paper.model_validate({**EAT_PAPER.model_dump(), "claims": [claim]})
    (judged,) = scorecard.judge(paper, [evidence(root / "study", FAST)], PUBLISHED, run)
    return judged.gpu


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"kind": "speed", "model": "eat", "expect": "slower"}, "reproduced: 0.60x [0.55, 0.65] (SST-2, NVIDIA T1)"),
        (
            {"kind": "speed_against", "model": "eat", "other": "distilbert", "expect": "faster"},
            "not reproduced: 0.60x [0.55, 0.65] against 1.90x [1.80, 2.00] of student-3 (SST-2, NVIDIA T1)",
        ),
        ({"kind": "frontier", "model": "eat"}, f"{OPEN}: eat-6 has fewer than two thresholds."),
        ({"kind": "accuracy_against", "model": "eat", "other": "bert", "expect": "lower"}, rounding.DASH),
    ],
)
def test_a_claim_on_latency_has_a_verdict_of_the_gpu_run(tmp_path: Path, test: dict[str, Any], expected: str) -> None:
    run = gpu_evidence(gpu_file(tmp_path / "gpu.csv"), PUBLISHED)
    assert gpu_of(test, tmp_path, run) == expected.replace("x [", f"{rounding.TIMES} [")


def test_the_noise_of_the_gpu_run_counts(tmp_path: Path) -> None:
    """The claim is on the dense model itself: [1.1, 1.3] is faster, but not against a clock that is off by 1.4."""
    test = {"kind": "speed", "model": "bert", "expect": "faster"}
    run = gpu_evidence(gpu_file(tmp_path / "gpu.csv"), PUBLISHED)
    assert run is not None and gpu_of(test, tmp_path, run).startswith("reproduced: ")
    noisy = replace(run[0], noise=NoiseFloor(1.0, 0.9, 1.4, 1.0))
    assert gpu_of(test, tmp_path, (noisy, run[1])).startswith(OPEN)


def test_without_a_gpu_run_the_column_says_so(tmp_path: Path) -> None:
    judged = scorecard.judge(EAT_PAPER, [evidence(tmp_path)], PUBLISHED)
    shown = {one.gpu for one in judged if one.claim.test.kind in ("speed", "speed_against", "frontier")}
    assert shown == {"No GPU run is at hand."}
    assert {one.gpu for one in judged} == shown | {rounding.DASH}
    table = scorecard.scorecard_table(EAT_PAPER, judged)
    assert table.columns[-1].title == "On a GPU"
    # a run without trained systems is none for the claims
    assert gpu_evidence(gpu_file(tmp_path / "gpu.csv", text="32 tokens"), PUBLISHED) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cpu"}, r"gpu\.csv: device is cpu, not cuda; write it again from a run on a GPU, or remove it"),
        ({"card": ["a", "b"] * 3}, r"gpu\.csv: rows of several cards \(a, b\); write it again from the files of one"),
    ],
)
def test_a_table_that_is_not_of_one_gpu_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EatError, match=message):
        gpu_evidence(gpu_file(tmp_path / "gpu.csv", **changes), PUBLISHED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "claims:\n- {claim: a, where: b, test: {kind: magic}}\n", "test: input tag 'magic'"),
        (HEAD, "claims: field required"),
        ("claims: [", "cannot be read"),
    ],
)
def test_claims_that_cannot_be_read_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EatError, match=message) as error:
        read_paper(path)
    assert "\n" not in str(error.value)
