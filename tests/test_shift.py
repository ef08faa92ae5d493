"""`eat shift`: the settings by hand, the texts of another domain, and what a run writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from exported_rows import write_results

from eat.analysis.shift import ABOUT, RESULT, mean_ratio, verdict
from eat.analysis.shift_settings import conservative, refitted, settings_of
from eat.analysis.shifted_texts import labels_from, read_domain
from eat.cli import main
from eat.errors import EatError
from eat.files import read_json
from eat.model.exit_policy import ExitPolicy
from eat.results.trace import Trace
from eat.statistics import Estimate
from eat.study.loading import load_study
from eat.study.tasks import FileSource
from eat.trace.recording import record_trace


def trace_of(logits: np.ndarray, labels: np.ndarray) -> Trace:
    """A trace with one exit, after layer 4, in which only logits and labels matter."""
    n = len(labels)
    tokens = np.full((n, 4), 8, dtype=np.int32)
    return Trace(
        np.arange(n).astype(str).astype(object), labels, np.full(n, 8, dtype=np.int32), {4: logits.astype(np.float32)},
        tokens, tokens, tokens, tokens, tokens, np.full((n, 4), np.inf), {"layers": 4},
    )  # fmt: skip


def test_a_conservative_threshold_is_half_as_far_from_one():
    assert conservative(ExitPolicy(("confidence",), 0.8)).tau == pytest.approx(0.9)
    by_layer = conservative(ExitPolicy(("confidence",), {2: 0.8, 4: (0.6, 1.0)})).tau
    assert by_layer == {2: pytest.approx(0.9), 4: (pytest.approx(0.8), 1.0)}


def test_logits_that_double_out_of_domain_double_the_temperature():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(200, 2)), draw.integers(2, size=200)
    labels[:150] = logits[:150].argmax(axis=1)
    old, new = trace_of(logits, labels), trace_of(2 * logits, labels)
    # a threshold that was chosen on raw probabilities, and one that was chosen on calibrated ones
    for given in ({}, {4: 1.7}):
        found = refitted(ExitPolicy(("confidence",), 0.8, given), old, new)
        assert found.temperatures[4] == pytest.approx(2 * given.get(4, 1.0), rel=1e-3)
        assert found.tau == 0.8


def test_only_settings_that_change_something_are_there():
    assert list(settings_of(ExitPolicy())) == ["as chosen"]
    assert list(settings_of(ExitPolicy(("agreement",)))) == ["as chosen", "full depth"]
    found = settings_of(ExitPolicy(("confidence",), 0.8, {4: 1.5}))
    assert list(found) == ["as chosen", "conservative", "full depth"]
    assert not found["full depth"].may_exit and found["full depth"].temperatures == {4: 1.5}


def test_a_promise_is_judged_by_its_interval():
    assert verdict(Estimate(0.01, 0.0, 0.02), 0.02) == "within"
    assert verdict(Estimate(0.02, 0.01, 0.03), 0.02) == "undecided"
    assert verdict(Estimate(0.05, 0.03, 0.07), 0.02) == "beyond"


def test_a_ratio_of_means_has_an_interval_only_if_something_varies():
    assert mean_ratio(np.full(9, 6.0), np.full(9, 3.0)) == Estimate(2.0, 2.0, 2.0)
    found = mean_ratio(np.arange(1.0, 51.0), np.ones(50))
    assert found.low < found.value == 25.5 < found.high


# --- texts --------------------------------------------------------------------------------------------------------


def news(path: Path, rows: int = 40) -> FileSource:
    """A file of texts of three labels."""
    labels = ["sport", "tech", "food"]
    table = pd.DataFrame(
        {"text": [f"text {row}" for row in range(rows)], "label": [labels[row % 3] for row in range(rows)]}
    )
    table.to_csv(path, index=False)
    return FileSource.model_validate({"kind": "file", "path": str(path), "text": ["text"], "label": "label"})


def test_labels_are_mapped_and_texts_of_others_are_left_out(tmp_path: Path) -> None:
    ours = ["World", "Sports", "tech"]
    source = news(tmp_path / "news.csv")
    found = read_domain(source, ours, {"sport": "Sports"}, [], 100, pair=False)
    # 14 of sport, 13 of tech, which has the task's name, 13 of food, which the task lacks
    assert found.about["rows"] == {
        "read": 40, "of_other_labels": 13, "empty": 0, "contradicting": 0, "duplicates": 0, "seen_by_the_models": 0,
        "used": 27,
    }  # fmt: skip
    assert found.about["labels"] == {"sport": "Sports", "tech": "tech"}
    both = pd.concat([found.fitting, found.testing])
    assert both["id"].is_unique and (len(found.fitting), len(found.testing)) == (14, 13)
    expected = both["text"].str.split().str[1].astype(int) % 3 + 1
    assert (both["label"] == expected).all()
    seen = list(found.fitting["id"].head(3))
    again = read_domain(source, ours, {"sport": "Sports"}, seen, 100, pair=False)
    assert again.about["rows"]["seen_by_the_models"] == 3
    assert not {*seen} & {*again.fitting["id"], *again.testing["id"]}


@pytest.mark.parametrize(
    ("labels", "mapping", "message"),
    [
        (["tech", "sport"], {"music": "tech"}, "--map: the texts have no label music; theirs: food, sport, tech"),
        (["tech", "sport"], {"food": "News"}, "--map: the task has no label News; its labels: tech, sport"),
        (["ham", "tech"], {}, "fewer than two labels of the texts"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, labels: list[str], mapping: dict[str, str], message: str
) -> None:
    with pytest.raises(EatError, match=message):
        read_domain(news(tmp_path / "news.csv"), labels, mapping, [], 100, pair=False)


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EatError, match="a half has fewer than two of"):
        read_domain(news(tmp_path / "news.csv", 5), ["food", "sport", "tech"], {}, [], 100, pair=False)


def test_a_mapping_has_one_form():
    assert labels_from(["a=b", "c d=e=f"]) == {"a": "b", "c d": "e=f"}
    for wrong in (["a"], ["=b"], ["a="], ["a=b", "a=c"]):
        with pytest.raises(EatError, match="give each label of the texts once, as THEIRS=OURS"):
            labels_from(wrong)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of a small study, its traces, and a file of another domain."""
    folder = tmp_path_factory.mktemp("shifted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_results()
        own = load_study("config/tiny.yaml")
        for seed, name in enumerate(["train", "calibration", "dev"], start=10):
            tiny.split(Path(f"data/tiny/tiny/{name}.parquet"), 40, seed)
        models = Path("results/tiny/models/tiny")
        for system in ("dense", "eat", "eat-safe"):
            folders = [models / ("dense" if system == "dense" else "eat") / "seed1/finetune"]
            for name in ("calibration", "dev"):
                found = record_trace(
                    folders,
                    own.parts(system),
                    Path(f"data/tiny/tiny/{name}.parquet"),
                    ["negative", "positive"],
                    32,
                    name,
                )
                found.write(Path(f"results/tiny/traces/tiny/{system}/seed1/{name}.parquet"))
        other = tiny.table(60, seed=20)
        learned = pd.read_parquet("data/tiny/tiny/train.parquet").head(2)
        other = pd.concat([other, learned.drop(columns="id")])
        other["label"] = ["good" if label else "bad" for label in other["label"]]
        other.to_csv("other.csv", index=False)
    return folder


GIVEN = ["shift", "config/tiny.yaml", "--texts", "other.csv", "--map", "good=positive", "--map", "bad=negative"]


def test_a_run_compares_settings_in_and_out_of_domain(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    main([*GIVEN, "--to", "out", "--system", "eat", "--system", "eat-safe", "--system", "dense"])
    table, about = pd.read_csv("out/" + RESULT), read_json("out/" + ABOUT)
    assert about["rows"]["read"] == 62 and about["labels"] == {"bad": "negative", "good": "positive"}
    settings = {key: list(own["setting"]) for key, own in table.groupby(["system", "domain"])}
    adaptive = ["as chosen", "refitted", "conservative", "full depth"]
    assert settings["eat", "in"] == ["as chosen", "full depth"] and settings["eat", "out"] == adaptive
    assert settings["dense", "in"] == ["as chosen"] and settings["dense", "out"] == ["as chosen", "refitted"]
    at = table.set_index(["system", "domain", "setting"]).sort_index()
    assert (at["n"].xs("in", level="domain") == 40).all() and (at["n"].xs("out", level="domain") <= 31).all()
    for system in ("eat", "eat-safe"):
        chosen, careful, full = (at.loc[system, "out", name] for name in ("as chosen", "conservative", "full depth"))
        assert chosen["avg_depth"] <= careful["avg_depth"] <= full["avg_depth"] == 4
        assert full["disagreement"] == 0 and full["flops_ratio"] <= chosen["flops_ratio"]
        assert careful["tau"] == pytest.approx((1 + chosen["tau"]) / 2)
    assert at.loc["dense", "out", "as chosen"]["flops_ratio"] == 1.0
    # another temperature changes no answer of a model without exits
    assert at.loc["dense", "out", "refitted"]["accuracy"] == at.loc["dense", "out", "as chosen"]["accuracy"]
    assert at.loc["eat", "in", "as chosen"]["temperatures"] == '{"2": 0.8, "4": 1.4}'
    safe = at.loc["eat-safe", "out", "as chosen"]
    assert (safe["epsilon"], safe["risk"], safe["bad"]) == (0.05, "disagreement", safe["disagreement"])
    assert safe["promise"] == verdict(Estimate(safe["bad"], safe["bad_low"], safe["bad_high"]), 0.05)
    assert at.loc["eat", "out"]["promise"].isna().all()
    for name in ("accuracy", "avg_depth", "flops_ratio", "disagreement", "ece_debiased"):
        assert ((table[f"{name}_low"] <= table[name] + 1e-12) & (table[name] <= table[f"{name}_high"] + 1e-12)).all()
    printed = capsys.readouterr().out
    assert "62 texts read" in printed and "conservative" in printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--packaged", "imdb"], "with either --packaged NAME or --texts FILE"),
        (["--count", "3"], "--count: found 3; give a whole number from 8 on"),
        (["--label", "kind"], "kind"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    study: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    with pytest.raises(SystemExit):
        main([*GIVEN, "--to", "never", "--system", "eat", *given])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("never").exists()


def test_another_package_is_named(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    with pytest.raises(SystemExit):
        main(["shift", "config/tiny.yaml", "--packaged", "yelp", "--to", "never"])
    assert "--packaged: found 'yelp'; allowed: rotten_tomatoes, imdb, bbc_news" in capsys.readouterr().err
