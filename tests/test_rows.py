"""Names of tasks and systems survive the files of the results, whatever else a reader of CSV could take them for."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic_results import DENSE, EAT, Made, write_study

from eat.errors import DamagedFile, EatError
from eat.files import write_table
from eat.results.rows import in_precision_of, in_setting_of, read_rows, rows_of

NAMES = ("NA", "None", "null", "nan", "007", "1e3", "true", "1.0")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_name_is_read_as_it_was_written(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"table.{ending}"
    table = pd.DataFrame({"task": name, "system": [name, "dense"], "model": name, "tau": [0.5, None], "n": [1, 2]})
    write_table(path, table)
    read = read_rows(path)
    assert read[["task", "system", "model"]].to_dict("records") == table[["task", "system", "model"]].to_dict("records")
    assert read["tau"].isna().tolist() == [False, True]
    assert read["n"].tolist() == [1, 2]


def test_a_row_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("task,system,n\nNA,,1\n", encoding="utf-8")
    with pytest.raises(DamagedFile, match=r"table\.csv: misses values in the column system; delete it"):
        read_rows(path)


@pytest.mark.parametrize("name", ["NA", "007"])
@pytest.mark.parametrize("command", ["frontier", "flops", "latency", "buckets", "report_tables"])
def test_a_command_finds_a_task_and_a_system_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    system = "null" if name == "NA" else "1e3"
    results, data = write_study(tmp_path, (name,), Made(systems=(DENSE, replace(EAT, name=system))))
    options = {"task": name, "reference": "dense-6", "summary": results / "summary.csv"}
    if command == "report_tables":
        published = Path(__file__).parents[1] / "report" / "published.yaml"
        options |= {"title": name, "card": data / name / "card.json", "published": published}
        options |= {"paper": results / f"summary_{name}.csv", "out": tmp_path / "out"}
    else:
        options |= {"pdf": tmp_path / "out" / "figure.pdf", "svg": tmp_path / "out" / "figure.svg"}
        more = {"latency": ("timing", results / "timing" / f"{name}.parquet")}
        more["buckets"] = ("buckets", results / "buckets.csv")
        options |= dict([more[command]] if command in more else [])
    words = [] if command == "report_tables" else [command]
    words += [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    module = "report_tables" if command == "report_tables" else "figures"
    monkeypatch.setattr(sys, "argv", [module, *words])
    importlib.import_module(f"workflow_scripts.{module}").main()
    written = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir() if path.suffix in (".svg", ".tex")
    )
    assert system in written


@pytest.mark.parametrize(("column", "values"), [("card", ("NVIDIA T1", "NVIDIA T2")), ("device", ("cuda", "cpu"))])
def test_a_table_of_several_cards_is_refused(tmp_path: Path, column: str, values: tuple[str, str]) -> None:
    results, _ = write_study(tmp_path, ("films",), Made(systems=(DENSE, EAT)))
    summary = read_rows(results / "summary.csv")
    summary[column] = [values[number % 2] for number in range(len(summary))]
    with pytest.raises(EatError, match=rf"^task 'films': rows of {column} .*{values[0]}.* in one summary; report each"):
        rows_of(summary, "films")


def test_rows_of_the_references_precision_are_of_any_engine_and_those_of_its_setting_of_its_own() -> None:
    rows = pd.DataFrame(
        [
            ("dense-6", "torch", "float32"),
            ("adapt-6", "onnx", "float32"),
            ("adapt-6-int8", "onnx", "int8"),
            ("hf-dense", "stock", "float32"),
            ("hf-dense-onnx", "onnx", "float32"),
        ],
        columns=["system", "engine", "dtype"],
    )
    assert in_setting_of(rows, "dense-6") == {"dense-6", "hf-dense"}
    assert in_precision_of(rows, "dense-6") == {"dense-6", "hf-dense", "adapt-6"}
