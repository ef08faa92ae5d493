"""An ablation: its variants stand in its table and figure, and in no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_summary import files_of, study_of

from eat.errors import EatError
from eat.figures.ablation import FIGURE, TITLES, plot_ablation
from eat.files import read_json, read_table
from eat.results.columns import ABLATION_COLUMNS
from eat.study import keys
from eat.study.loading import load_study
from eat.study.study import Study
from eat.summarize.buckets import bucket_rows
from eat.summarize.curves import CURVES
from eat.summarize.summary import summarize

OFF: dict[str, Any] = {
    "eat-no-exit": {"weights_of": "eat", "exits": {"rule": [], "tau": []}},
    "eat-raw": {"weights_of": "eat", "calibration": "raw"},
}


def with_ablation(**ablation: Any) -> Study:
    value = study_of(seeds=(1,)).model_dump(mode="json", by_alias=True)
    value["systems"] |= OFF
    value["ablation"] = {"kind": "switched_off", "base": "eat", "variants": [*OFF]} | ablation
    return load_study(value)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a study with an ablation."""
    folder = tmp_path_factory.mktemp("ablation")
    study = with_ablation()
    summarize(study, {"movies": files_of(folder, study)}, folder / "results", {"buckets": bucket_rows})
    return folder / "results"


def test_variants_stand_in_the_ablation_alone(results: Path) -> None:
    table = read_table(results / "summary_ablation_movies.csv")
    assert tuple(table.columns) == ABLATION_COLUMNS
    assert table[["system", "role"]].to_numpy().tolist() == [
        ["dense", "reference"],
        ["eat", "full"],
        ["eat-no-exit", "variant"],
        ["eat-raw", "variant"],
    ]
    assert set(table["ablation"]) == {"switched_off"}
    others = ["summary.csv", "buckets.csv", *(f"curves/{path.name}" for path in (results / "curves").iterdir())]
    assert len(others) == 2 + len(CURVES)
    for name in others:
        assert not set(read_table(results / name)["system"]) & set(OFF), name
    assert not set(read_table(results / "summary_movies.csv")["model"]) & set(OFF)
    assert not set(read_json(results / "metrics.json")["tasks"]["movies"]["systems"]) & set(OFF)


def test_computation_and_accuracy_are_those_of_the_summary(results: Path) -> None:
    table = read_table(results / "summary_ablation_movies.csv").set_index("system")
    summary = read_table(results / "summary.csv")
    full = summary[(summary["system"] == "eat") & summary["chosen"] & (summary["batch_size"] == 1)].iloc[0]
    assert table.loc["dense", "compute"] == 1.0
    assert table.loc["eat", "compute"] == pytest.approx(1.0 / full["flops_ratio"])
    assert table.loc["eat", "delta_accuracy"] == pytest.approx(full["delta_accuracy"])
    # without its exit every text runs through all layers; a temperature changes no work but where it moves a threshold
    assert table.loc["eat-no-exit", "compute"] > table.loc["eat", "compute"]
    assert table["exits"].to_dict() == {
        "dense": "none",
        "eat": "confidence",
        "eat-no-exit": "none",
        "eat-raw": "confidence",
    }
    assert table.loc["eat-raw", "calibration"] == "raw"


def test_the_figure_says_which_kind_it_is_and_refuses_to_mix_them(results: Path, tmp_path: Path) -> None:
    table = read_table(results / "summary_ablation_movies.csv")
    for name in ("a", "b"):
        FIGURE.write(table, "movies", out_pdf=tmp_path / f"{name}.pdf", out_svg=tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    mixed = pd.concat([table, table.assign(ablation="retrained")])
    with pytest.raises(EatError, match="the table has the ablations retrained, switched_off; a figure shows one of"):
        plot_ablation(mixed, "movies")
    assert not (tmp_path / "c.pdf").exists()
    assert set(TITLES) == {"switched_off", "retrained"}


# --- the configuration --------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "base": (
        {"base": "bert"},
        "ablation.base: 'bert' is not a system; known: dense, eat, hf-dense-onnx-int8, eat-no-exit, eat-raw",
    ),
    "variant": ({"variants": ["lean"]}, "ablation.variants.0: 'lean' is not a system; known: "),
    "the base": (
        {"variants": ["eat"]},
        "ablation.variants.0: 'eat' is the reference or the base, which are always included",
    ),
    "trained": ({"base": "dense"}, "ablation.variants.0: 'eat-no-exit' needs `weights_of: dense`, since nothing is"),
    "not trained": ({"kind": "retrained"}, "ablation.variants.0: 'eat-no-exit' runs the weights of eat; give it a"),
    "kind": ({"kind": "both"}, "ablation.kind: found 'both'; input should be 'switched_off' or 'retrained'"),
}


@pytest.mark.parametrize(("changes", "line"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_ablation_is_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(EatError) as caught:
        with_ablation(**changes)
    assert str(caught.value).startswith(f"configuration: {line}")


def test_another_temperature_is_no_other_training() -> None:
    study = with_ablation(kind="retrained", variants=["eat-raw"])
    assert study.operating_spec("eat-raw") == study.operating_spec("eat").model_copy(update={"calibration": "raw"})
    assert study.calibration_of("eat").mode == "fitted"


def test_only_the_summary_depends_on_the_ablation() -> None:
    one, other = with_ablation(), with_ablation(variants=["eat-raw"])
    for keep in (keys.POINTS, keys.TIMING, keys.CALIBRATE):
        assert one.view(keep, ["movies"]) == other.view(keep, ["movies"])
    assert one.view(keys.SUMMARIZE) != other.view(keys.SUMMARIZE)
    raw = one.model_dump(mode="json", by_alias=True)
    raw["systems"]["eat-raw"]["calibration"] = "paper"
    assert load_study(raw).view(keys.TIMING) == one.view(keys.TIMING)
    assert load_study(raw).operating_spec("eat-raw") != one.operating_spec("eat-raw")
