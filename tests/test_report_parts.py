"""The parts of a report that a study may lack: lengths, promises, importance. Verdicts on tables worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_results import DENSE, EAT, PLACEMENT, STUDENT, Made, write_study
from test_report import PROVENANCE, TEMPLATES, Page, empty_figures, rendered

from eat.errors import DamagedFile
from eat.report import verdicts
from eat.report.first_screen import promise_fact, promise_name
from eat.report.importance import (
    correlation_table,
    equal_retention,
    importance_sentences,
    mean_correlation,
    retention_table,
)
from eat.report.lengths import FEWEST, compared_buckets, findings_table, lengths_table
from eat.report.promises import promises_table
from eat.report.render import render_report
from eat.report.results import TaskFiles
from eat.report.verdicts import Comparison
from eat.results.columns import BUCKET_COLUMNS, PROMISE_COLUMNS
from eat.results.noise import NoiseFloor
from eat.results.picks import STOCK_COLUMNS, Baseline, Picks

QUIET = NoiseFloor(1.0, 0.98, 1.02, 1.0)
HEADINGS = ("Length of the text", "Promises", "Importance of tokens")


# --- in the report ------------------------------------------------------------------------------------------------


def test_a_part_without_anything_to_say_is_left_out(tmp_path: Path) -> None:
    texts = rendered(tmp_path, Made(systems=(DENSE, STUDENT)))
    for heading in HEADINGS:
        assert heading not in Page(texts["report.html"]).text
        assert heading not in texts["results_section.tex"]


def test_every_part_is_in_the_page_and_in_the_paper(tmp_path: Path) -> None:
    tasks = ("imdb", "rotten_tomatoes")
    results, data = write_study(tmp_path, tasks, Made(systems=(DENSE, STUDENT, EAT)))
    empty_figures(results, tasks)
    promise("eat-6", task="imdb").to_csv(results / "promises.csv", index=False)
    for task in tasks:
        (results / "importance").mkdir(exist_ok=True)
        scores({"eat-6": ("norm", 0.2)}, task).to_csv(results / "importance" / f"{task}.csv", index=False)
    titles = {task: task for task in tasks}
    provenance = PROVENANCE | {"importance": True}
    render_report("synthetic", titles, results, data, TEMPLATES, provenance, results / "report", PLACEMENT)
    html = (results / "report" / "report.html").read_text(encoding="utf-8")
    section = (results / "report" / "results_section.tex").read_text(encoding="utf-8")
    page = Page(html)
    for heading in HEADINGS:
        assert html.count(f"<h2>{heading}</h2>") == 1
        assert rf"\section{{{heading}}}" in section
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    # only imdb has a promise
    found = [name for name in page.ids if name.startswith("table-promises")]
    assert found == ["table-promises%3Aimdb", "table-promises%3Aimdb-name"]
    for name in ("buckets.csv", "promises.csv", "importance/imdb.csv"):
        assert name in page.text
    assert "Both together gain on short and on long texts" in page.text
    assert "Both together gain on short and on long texts" in section


def test_other_papers_figures_are_shown_with_their_source_where_their_systems_ran(tmp_path: Path) -> None:
    ltp = replace(EAT, name="ltp", taus=(None,), chosen=0)
    shown = rendered(tmp_path / "with", Made(systems=(DENSE, STUDENT, ltp)), ("mrpc",))
    for text in shown["report.html"], shown["results_section.tex"]:
        assert "Figures of other papers on mrpc" in text.replace("&#39;", "'")
        assert "X. He et al., Magic Pyramid" in text
    assert "Magic Pyramid" not in rendered(tmp_path / "without", Made(systems=(DENSE, STUDENT)))["report.html"]


def test_a_report_has_the_scorecard_of_each_paper_whose_model_ran(tmp_path: Path) -> None:
    pyramid = replace(EAT, name="magic-pyramid", taus=(0.2, 0.5, 0.9))
    adapler = replace(EAT, name="adapler", taus=(None,), chosen=0)
    for systems, names in (
        ((DENSE, STUDENT, EAT), ["EAT"]),
        ((DENSE, STUDENT, pyramid, adapler), ["Magic Pyramid", "AdapLeR"]),
        ((DENSE, STUDENT), []),
    ):
        shown = rendered(tmp_path / "-".join(["of", *names]), Made(systems=systems))
        page = Page(shown["report.html"])
        tables = [name for name in page.ids if name.startswith("table-scorecard") and not name.endswith("-name")]
        assert tables == [f"table-scorecard%3A{name.replace(' ', '%20')}" for name in names]
        assert ("The papers' claims" in page.text) == bool(names)
        section = shown["results_section.tex"]
        assert [name for name in ("EAT", "Magic Pyramid", "AdapLeR") if f"\\subsection{{{name}}}" in section] == names


def test_a_promise_with_a_gap_is_refused(tmp_path: Path) -> None:
    results, data = write_study(tmp_path, made=Made(systems=(DENSE, STUDENT, EAT)))
    empty_figures(results, ("rotten_tomatoes",))
    promise("eat-6", observed_low=None).to_csv(results / "promises.csv", index=False)
    with pytest.raises(DamagedFile, match=r"promises\.csv: misses values in the column observed_low"):
        titles = {"rotten_tomatoes": "rotten_tomatoes"}
        render_report("synthetic", titles, results, data, TEMPLATES, PROVENANCE, tmp_path / "out", PLACEMENT)


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "other", "expected"),
    [
        ((1.2, 1.4), (0.9, 1.1), "higher"),
        ((0.9, 1.1), (1.2, 1.4), "lower"),
        ((0.9, 1.2), (1.2, 1.4), "no difference shown"),  # they meet
        ((1.0, 1.5), (1.2, 1.3), "no difference shown"),
    ],
)
def test_values_are_told_apart_where_their_intervals_do_not_meet(
    value: tuple[float, float], other: tuple[float, float], expected: str
) -> None:
    assert verdicts.comparison(value, other) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["higher", "higher"], "holds"),
        (["higher", "no difference shown"], "holds for some and is not shown for others"),
        (["lower", "no difference shown"], "does not hold"),
        (["higher", "lower"], "holds for some and not for others"),
        (["no difference shown"], "is not shown"),
    ],
)
def test_a_finding_follows_what_is_told_apart(outcomes: list[Comparison], expected: str) -> None:
    assert verdicts.finding(outcomes, "higher") == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.05, "kept"), (0.01, 0.051, "undecided"), (0.05, 0.07, "undecided"), (0.051, 0.07, "broken")],
)
def test_a_promise_of_5_percent(low: float, high: float, expected: str) -> None:
    assert verdicts.promise_verdict(0.05, low, high) == expected


SAME: Comparison = "no difference shown"


@pytest.mark.parametrize(
    ("rivals", "controls", "expected"),
    [
        ([SAME, "higher"], ["higher"], "competitive"),
        ([SAME, "lower"], ["higher"], "not competitive"),
        ([SAME], ["lower"], "not competitive"),  # chance does better
        ([SAME], [SAME], "undecided"),  # chance does as well
        ([SAME], [], "undecided"),  # without a control, chance is unknown
        ([], ["higher"], "undecided"),  # there is nobody to compete with
    ],
)
def test_who_is_competitive(rivals: list[Comparison], controls: list[Comparison], expected: str) -> None:
    assert verdicts.competitive(rivals, controls) == expected


# --- length of the text -------------------------------------------------------------------------------------------


def bucket(system: str, adapts_by: str, name: str, gain: float, flops: float = 1.5, **more: Any) -> dict[str, Any]:
    """A row whose interval reaches 0.05 to either side."""
    row = dict.fromkeys(BUCKET_COLUMNS, 0.9) | {"task": "t", "system": system, "tau": None, "chosen": True}
    row |= {"adapts_by": adapts_by, "bucket": name, "n": 300, "n_timed": 50, "flops_ratio": flops}
    row |= {"delta_accuracy": -0.01, "delta_low": -0.02, "delta_high": 0.0}
    return row | {"speedup_vs_packed_dense": gain, "packed_low": gain - 0.05, "packed_high": gain + 0.05} | more


def task_of(
    buckets: list[dict[str, Any]],
    promises: pd.DataFrame | None = None,
    importance: pd.DataFrame | None = None,
    retention: pd.DataFrame | None = None,
    accuracies: Mapping[str, tuple[float, float]] = {},
    precisions: Mapping[str, str] = {},
) -> TaskFiles:
    """A task's files with these tables; accuracies: the interval of each system's difference to the reference."""
    systems = list(dict.fromkeys(["dense", *(row["system"] for row in buckets)]))
    summary = [
        {
            "task": "t", "system": name, "batch_size": 1, "chosen": True,
            "engine": "torch", "dtype": precisions.get(name, "float32"),
            "accuracy": 0.9, "accuracy_low": 0.88, "accuracy_high": 0.92, "retention_full_depth": 0.5,
            "delta_accuracy": sum(accuracies.get(name, (0.0, 0.0))) / 2, "flops_ratio": 2.0,
            "delta_low": accuracies.get(name, (0.0, 0.0))[0], "delta_high": accuracies.get(name, (0.0, 0.0))[1],
        }
        for name in systems
    ]  # fmt: skip
    empty = pd.DataFrame()
    return TaskFiles(
        "t",
        "t",
        summary=pd.DataFrame(summary),
        paper_columns=empty,
        exits=empty,
        lengths=empty,
        retention=empty if retention is None else retention,
        cost=empty,
        buckets=pd.DataFrame(buckets),
        promises=pd.DataFrame(columns=list(PROMISE_COLUMNS)) if promises is None else promises,
        ablation=None,
        importance=importance,
        card={},
        timing={},
    )


def both_ends(system: str, adapts_by: str, short: float, long: float, **more: Any) -> list[dict[str, Any]]:
    """Texts of 36 to 70 tokens lie between the two."""
    ends = (("1-35", short), ("36-70", (short + long) / 2), ("over 70", long))
    # counted in FLOPs every gain doubles from the shortest to the longest
    return [
        bucket(system, adapts_by, name, gain, flops, **more)
        for (name, gain), flops in zip(ends, (1.5, 2, 3), strict=True)
    ]


def findings(task: TaskFiles) -> list[str]:
    """The cells of the only row of the table."""
    table = findings_table(task, "dense", QUIET)
    assert table is not None
    (row,) = table.groups[0].rows
    return [cell.text for cell in row.cells]


@pytest.mark.parametrize(
    ("adapts_by", "short", "long", "verdict", "told", "in_flops"),
    [
        ("pruning", 1.1, 1.6, "holds", "greater on long texts: tested", "1 of 1"),
        ("pruning", 1.6, 1.1, "does not hold", "smaller on long texts: tested", "1 of 1"),
        ("pruning", 1.1, 1.2, "is not shown", "not shown to differ: tested", "1 of 1"),
        ("exits", 2.0, 1.5, "holds", "smaller on long texts: tested", "0 of 1"),
        ("exits", 1.5, 2.0, "does not hold", "greater on long texts: tested", "0 of 1"),
        ("exits", 1.5, 1.5, "is not shown", "not shown to differ: tested", "0 of 1"),
        ("both", 1.5, 1.2, "holds", "above the noise floor on both: tested", "1 of 1"),
        ("both", 1.5, 0.9, "does not hold", "below the noise floor on one of them: tested", "1 of 1"),
        # 1.04 - 0.05 is below what the clock alone shows
        ("both", 1.5, 1.04, "is not shown", "within the noise floor on at least one of them: tested", "1 of 1"),
    ],
)
def test_the_finding_on_lengths_by_the_clock(
    adapts_by: str, short: float, long: float, verdict: str, told: str, in_flops: str
) -> None:
    task = task_of([*both_ends("dense", "neither", 1.0, 1.0), *both_ends("tested", adapts_by, short, long)])
    assert findings(task)[1:] == [verdict, told, f"holds for {in_flops}"]
    table = findings_table(task, "dense", QUIET)
    assert table is not None
    assert "1-35" in table.caption and "over 70" in table.caption and "36-70" not in table.caption


def test_systems_of_a_kind_are_judged_together() -> None:
    rows = [
        *both_ends("dense", "neither", 1.0, 1.0),
        *both_ends("a", "pruning", 1.1, 1.6),
        *both_ends("b", "pruning", 1.1, 1.1),
        *both_ends("c", "pruning", 1.6, 1.1),
        *both_ends("fewer-bits", "pruning", 1.1, 1.9),
    ]
    found = findings(task_of(rows, precisions={"fewer-bits": "int8"}))
    assert found[1] == "holds for some and not for others"
    assert found[2] == "greater on long texts: a; smaller on long texts: c; not shown to differ: b"
    assert found[3] == "holds for 3 of 3"  # what runs in fewer bits gains by that, too


def test_buckets_of_few_timed_texts_are_not_compared() -> None:
    dense = both_ends("dense", "neither", 1.0, 1.0)
    tested = both_ends("tested", "pruning", 1.1, 1.6)
    for row in (dense[2], tested[2]):
        row["n_timed"] = FEWEST - 1
    assert compared_buckets(task_of([*dense, *tested]), "dense") == ["1-35", "36-70"]
    for row in (dense[1], tested[1]):
        row["n_timed"] = 0
    task = task_of([*dense, *tested])
    assert compared_buckets(task, "dense") == []
    assert lengths_table(task, "dense") is None
    assert findings_table(task, "dense", QUIET) is None


def test_where_nothing_adapts_nothing_is_said() -> None:
    task = task_of([*both_ends("dense", "neither", 1.0, 1.0), *both_ends("student", "neither", 2.0, 2.2)])
    assert lengths_table(task, "dense") is None


def test_the_table_of_lengths_has_a_group_for_each_bucket() -> None:
    untimed = {"n_timed": 0, "speedup_vs_packed_dense": None, "packed_low": None, "packed_high": None}
    rows = [
        *both_ends("dense", "neither", 1.0, 1.0),
        *both_ends("tested", "exits", 1.5, 1.2),
        *both_ends("untimed", "both", 1.5, 1.2, **untimed),
    ]
    table = lengths_table(task_of(rows), "dense")
    assert table is not None
    assert [group.heading for group in table.groups] == ["1-35 tokens", "36-70 tokens", "over 70 tokens"]
    titles = [column.title for column in table.columns]
    row = dict(zip(titles, table.groups[2].rows[1].cells, strict=True))
    assert (row["Adapts by"].text, row["Texts"].text, row["Timed"].text) == ("early exits", "300", "50")
    assert (row["vs. packed"].text, row["vs. packed"].interval) == ("1.20", "[1.15, 1.25]")
    assert table.groups[0].rows[2].cells[titles.index("vs. packed")].text == "–"  # noqa: RUF001
    assert "untimed" not in "".join(findings(task_of(rows)))


# --- promises -----------------------------------------------------------------------------------------------------


def promise(system: str, task: str = "t", **changes: Any) -> pd.DataFrame:
    """5 % are promised; 30 of 1,000 dev texts are bad."""
    row = {
        "task": task, "system": system, "seed": 1, "risk": "disagreement", "epsilon": 0.05, "delta": 0.1, "n": 700,
        "bad": 21, "tau": 0.9, "n_dev": 1000, "bad_dev": 30, "observed": 0.03, "observed_low": 0.0203,
        "observed_high": 0.0426,
    }  # fmt: skip
    return pd.DataFrame([row | changes], columns=list(PROMISE_COLUMNS))


@pytest.mark.parametrize(
    ("changes", "verdict", "fact"),
    [
        ({}, "kept", "1 kept on dev"),
        ({"epsilon": 0.04}, "not decided", "1 not decided on dev"),
        ({"epsilon": 0.02}, "broken", "1 broken on dev"),
        ({"tau": 1.0, "observed": 0.0}, "kept", "1 without early exits on dev"),
    ],
)
def test_a_promise_beside_what_dev_shows(changes: dict[str, Any], verdict: str, fact: str) -> None:
    task = task_of([], promise("tested", **changes))
    table = promises_table(task)
    assert table is not None
    (row,) = table.groups[0].rows
    assert row.cells[-1].text == verdict
    assert row.cells[-2].interval == "[2.03, 4.26]"
    nothing = Picks(Baseline("hf-dense", STOCK_COLUMNS, None), 0, None, None)
    assert promise_fact(task, nothing) == fact
    picked = Picks(Baseline("hf-dense", STOCK_COLUMNS, None), 1, {"system": "tested"}, None)
    if "tau" in changes:
        assert promise_fact(task, picked) == fact
    else:
        bound = f"at most {100 * changes.get('epsilon', 0.05):.2f} % of answers changed"
        assert promise_name(task) == f"Promises ({bound})"
        assert promise_fact(task, picked) == f"{fact}; tested: observed 3.00 % [2.03, 4.26]"
        two = task_of([], pd.concat([promise("tested", **changes), promise("other", epsilon=0.1)]))
        assert promise_name(two) == "Promises"
        assert f"; tested: {bound}, observed 3.00 %" in promise_fact(two, picked)


def test_seeds_are_named_where_there_are_several() -> None:
    task = task_of([], pd.concat([promise("tested"), promise("tested", seed=2)]))
    table = promises_table(task)
    assert table is not None
    assert [row.cells[1].text for row in table.groups[0].rows] == ["1", "2"]
    picked = Picks(Baseline("hf-dense", STOCK_COLUMNS, None), 1, {"system": "tested"}, None)
    assert promise_fact(task, picked) == "2 kept on dev"
    assert promises_table(task_of([])) is None
    assert promise_fact(task_of([]), picked) == ""


# --- importance ---------------------------------------------------------------------------------------------------


def scores(systems: Mapping[str, tuple[str, float]], task: str = "t", half: float = 0.02) -> pd.DataFrame:
    """Each system's kind and rho after layer 2; after layer 4 it is 0.1 higher."""
    rows = [
        {
            "task": task, "system": name, "seed": 1, "kind": kind, "layer": layer, "n": 300, "rho": rho + more,
            "rho_low": rho + more - half, "rho_high": rho + more + half,
        }
        for name, (kind, rho) in systems.items()
        for layer, more in ((2, 0.0), (4, 0.1))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def alive(systems: Mapping[str, float]) -> pd.DataFrame:
    """The part of the tokens that each system keeps after the last of two layers."""
    return pd.DataFrame(
        [
            {"task": "t", "system": name, "tau": None, "over": "all", "layer": layer, "observed": part}
            for name, kept in systems.items()
            for layer, part in ((1, 1.0), (2, kept))
        ]
    )


KINDS = {"by-norm": "norm", "by-attention": "received", "by-chance": "random"}
KEPT = {"by-norm": 0.5, "by-attention": 0.5, "by-chance": 0.5, "merged": 0.52, "by-far-less": 0.3}


def compared(rho: Mapping[str, float], accuracies: Mapping[str, tuple[float, float]] = {}) -> TaskFiles:
    importance = scores({name: (KINDS[name], value) for name, value in rho.items()})
    pruning = [row for name in KEPT for row in both_ends(name, "pruning", 1.0, 1.2)]
    return task_of(pruning, importance=importance, retention=alive(KEPT), accuracies=accuracies)


def test_equals_keep_as_many_tokens_after_every_layer() -> None:
    task = compared({"by-norm": 0.2, "by-attention": 0.2, "by-chance": 0.0})
    assert equal_retention(task, "dense") == [["by-norm", "by-attention", "by-chance", "merged"]]
    table = retention_table(task, "dense")
    assert table is not None
    assert [[cell.text for cell in row.cells[:2]] for row in table.groups[0].rows] == [
        ["by-norm", "norm"], ["by-attention", "received"], ["by-chance", "random"], ["merged", "–"],  # noqa: RUF001
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rho", "expected"),
    [
        ({"by-norm": 0.2, "by-attention": 0.22, "by-chance": 0.0}, "the norm is competitive in by-norm"),
        ({"by-norm": 0.2, "by-attention": 0.3, "by-chance": 0.0}, "the norm is not competitive in by-norm"),
        ({"by-norm": 0.01, "by-attention": 0.0, "by-chance": 0.0}, "it is not shown whether the norm is competitive"),
        ({"by-norm": 0.2, "by-attention": 0.2}, "it is not shown whether the norm is competitive"),
    ],
)
def test_is_the_norm_competitive_by_correlation(rho: dict[str, float], expected: str) -> None:
    sentences = importance_sentences(compared(rho), "dense")
    (sentence,) = (one for one in sentences if one.startswith("By rank correlation"))
    assert expected in sentence
    middle = rho["by-norm"] + 0.05  # the mean of two layers
    assert f"its rank correlation with saliency is {middle:.2f} [{middle - 0.02:.2f}, {middle + 0.02:.2f}]" in sentence


@pytest.mark.parametrize(
    ("ends", "expected", "told"),
    [
        (
            {"by-norm": (-0.02, 0.0), "by-attention": (-0.03, 0.0), "by-chance": (-0.09, -0.05), "merged": (-0.01, 0)},
            "the norm is competitive in by-norm",
            "above that of by-chance (random), not shown to differ from that of by-attention (received), merged.",
        ),
        (
            {"by-norm": (-0.06, -0.04), "by-attention": (-0.03, 0.0), "by-chance": (-0.09, -0.07), "merged": (-0.1, 0)},
            "the norm is not competitive in by-norm",
            "above that of by-chance (random), below that of by-attention (received), not shown to differ from that of",
        ),
        (
            {},
            "it is not shown whether the norm is competitive in by-norm",
            "not shown to differ from that of by-attention",
        ),
    ],
)
def test_is_the_norm_competitive_by_accuracy(ends: dict[str, tuple[float, float]], expected: str, told: str) -> None:
    task = compared({"by-norm": 0.2, "by-attention": 0.2, "by-chance": 0.0}, ends)
    sentence = importance_sentences(task, "dense")[0]
    assert sentence.startswith(f"By accuracy at equal retention {expected}")
    assert told in sentence


def test_the_highest_correlation_is_told_beside_the_norm_s() -> None:
    sentence = importance_sentences(compared({"by-norm": 0.2, "by-attention": 0.4}), "dense")[-1]
    assert (
        "the highest rank correlation with saliency is that of by-attention (received): 0.45 [0.43, 0.47]" in sentence
    )
    assert "the highest one of the norm is that of by-norm (norm): 0.25 [0.23, 0.27]." in sentence
    sentence = importance_sentences(compared({"by-norm": 0.4, "by-attention": 0.2}), "dense")[-1]
    assert "the norm has the highest rank correlation with saliency: by-norm (norm): 0.45" in sentence


def test_the_table_of_correlations_has_a_column_for_each_layer() -> None:
    importance = pd.concat([scores({"a": ("norm", 0.2)}), scores({"b": ("received", -0.3)}).iloc[:1]])
    table = correlation_table(task_of([], importance=importance))
    assert table is not None
    assert [column.title for column in table.columns] == ["System", "Score", "Layer 2", "Layer 4", "All layers"]
    cells = [[cell.text for cell in row.cells] for row in table.groups[0].rows]
    assert cells[0] == ["a", "norm", "0.20", "0.30", "0.25"]
    assert cells[1] == ["b", "received", "−0.30", "–", "−0.30"]  # noqa: RUF001
    assert correlation_table(task_of([])) is None


def test_a_correlation_that_no_text_is_long_enough_for_is_a_dash() -> None:
    task = compared({"by-norm": float("nan"), "by-attention": 0.2})
    table = correlation_table(task)
    assert table is not None
    assert [cell.text for cell in table.groups[0].rows[0].cells[2:]] == ["–", "–", "–"]  # noqa: RUF001
    assert not any("its rank correlation" in sentence for sentence in importance_sentences(task, "dense"))


def test_a_mean_over_layers_is_no_surer_than_one_of_them() -> None:
    assert mean_correlation(scores({"a": ("norm", 0.2)})) == pytest.approx((0.25, 0.23, 0.27))


def test_a_study_without_the_norm_compares_nothing() -> None:
    importance = scores({"by-attention": ("received", 0.3)})
    task = task_of(both_ends("by-attention", "pruning", 1, 1), importance=importance, retention=alive(KEPT))
    assert importance_sentences(task, "dense") == [
        "This study has no system with the norm as its score, or none to compare it with."
    ]
