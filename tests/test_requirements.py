"""What a study asks of this machine: found out before anything is trained, by `check_study` and by a run itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from project_copy import FOLDER, ROOT, SNAKEMAKE, copy_project

from eat.engines.requirements import require_machine
from eat.errors import EatError
from eat.processor import cpu_name
from workflow_scripts import check_machine, check_study

SLOW = "takes 7 times as long as float32"
STOCK_HALF = {"engine": "stock", "precision": "bfloat16"}
ONNX_INT8 = {"engine": "onnx", "precision": "int8"}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this machine be slow in these precisions, given as (precision, of stock models); in no other."""

    def of(*refused: tuple[str, bool], training: bool = False) -> None:
        monkeypatch.setattr(
            "eat.engines.precision._fault", lambda precision, _, stock: SLOW if (precision, stock) in refused else None
        )
        monkeypatch.setattr(
            "eat.engines.setting.training_fault",
            lambda precision, _: SLOW if training and precision != "float32" else None,
        )

    return of


def systems(**precisions: str) -> dict[str, Any]:
    """The systems of a tiny study, and `eat` again in each of these precisions; int8 is of the engine onnx."""
    rows = tiny.study().model_dump(mode="json", by_alias=True)["systems"]
    engines = {name: "onnx" if precision == "int8" else "torch" for name, precision in precisions.items()}
    return rows | {
        name: {"weights_of": "eat", "precision": precision, "engine": engines[name]}
        for name, precision in precisions.items()
    }


def test_each_refused_system_has_a_line(slow: Any):
    study = tiny.study(systems=systems(half="bfloat16", fine="float32", other="float16"))
    slow(("bfloat16", False), ("float16", False))
    with pytest.raises(EatError) as error:
        require_machine(study)
    lines = str(error.value).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        f"systems.half: precision bfloat16 {SLOW} on this processor ({cpu_name()})",
        f"systems.other: precision float16 {SLOW} on this processor ({cpu_name()})",
    ]
    assert all("; use float32, omit it, or use " in line for line in lines)


def test_what_is_done_otherwise_is_said(slow: Any):
    study = tiny.study(training={"precision": "bfloat16"}, timing={"stock": [STOCK_HALF, ONNX_INT8]})
    slow()
    assert require_machine(study) == []
    slow(("bfloat16", True), training=True)
    training, left_out = require_machine(study)
    assert training == f"training in float32, since bfloat16 {SLOW} on this processor ({cpu_name()})"
    assert left_out.startswith(f"hf-dense-bfloat16 is not timed: precision bfloat16 {SLOW} on this processor")


def test_a_reference_is_tried_as_a_stock_model_too(slow: Any):
    rows = systems()
    rows["dense"]["precision"] = "bfloat16"
    slow(("bfloat16", True))
    with pytest.raises(EatError, match=r"^systems\.dense: precision bfloat16 "):
        require_machine(tiny.study(systems=rows))


@pytest.mark.parametrize("section", ["training", "timing", "trace"])
def test_a_device_that_is_not_there_is_found_before_training(monkeypatch: pytest.MonkeyPatch, section: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EatError, match=rf"^{section}\.device is cuda, but torch finds no GPU here"):
        require_machine(tiny.study(**{"timing": {"device": "auto"}, section: {"device": "cuda"}}))


@pytest.mark.parametrize(("traced", "timed"), [("auto", "cpu"), ("cpu", "auto")])
def test_a_trace_on_another_device_than_the_clock_is_found_before_training(
    monkeypatch: pytest.MonkeyPatch, traced: str, timed: str
):
    study = tiny.study(trace={"device": traced}, timing={"device": timed})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert require_machine(study) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = {"auto": "cuda", "cpu": "cpu"}
    with pytest.raises(EatError) as error:
        require_machine(study)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"trace.device is {found[traced]} here and timing.device {found[timed]}; timed answers are ")


def test_int8_on_a_gpu_is_found_before_training(monkeypatch: pytest.MonkeyPatch, slow: Any):
    slow()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    study = tiny.study(systems=systems(eight="int8"), timing={"device": "cuda"})
    with pytest.raises(EatError, match=r"^systems\.eight: the engine onnx on cuda; it runs on the CPU"):
        require_machine(study)


def test_a_teacher_is_tried_where_its_students_are_trained(monkeypatch: pytest.MonkeyPatch, slow: Any):
    slow()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rows = systems(eight="int8")
    assert require_machine(tiny.study(systems=rows)) == []  # traced and timed on the CPU
    rows["dense"]["recipe"][0]["distill"] = {"teacher": "eight"}
    with pytest.raises(EatError, match=r"^systems\.eight: the engine onnx on cuda; it runs on the CPU"):
        require_machine(tiny.study(systems=rows))


# --- the commands -------------------------------------------------------------------------------------------------


def given(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["command", *arguments])


def test_check_study_ends_with_the_line_of_a_refused_system(
    slow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    study = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["systems"]["half"] = {"weights_of": "eat-6", "precision": "bfloat16"}
    (tmp_path / "half.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    slow(("bfloat16", False))
    given(monkeypatch, str(tmp_path / "half.yaml"))
    with pytest.raises(EatError, match=r"^systems\.half: precision bfloat16 "):
        check_study.main()
    given(monkeypatch, str(tmp_path / "half.yaml"), "--elsewhere")
    check_study.main()
    assert "half" in capsys.readouterr().out


@pytest.mark.parametrize("config", ["config.yaml", "tiny.yaml", "long.yaml", "glue_cpu.yaml", "ablation.yaml"])
def test_the_studies_for_any_machine_ask_for_nothing_special(slow: Any, config: str, monkeypatch: pytest.MonkeyPatch):
    from eat.study.loading import load_study

    slow(*((precision, stock) for precision in ("float16", "bfloat16") for stock in (True, False)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    study = load_study(ROOT / "config" / config)
    assert require_machine(study) == []
    assert (study.trace_device, study.timing.device) == ("cpu", "cpu")


def test_the_machine_of_a_study_is_checked_by_a_command_of_its_own(
    slow: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    slow(("bfloat16", True))
    study = tiny.study(timing={"stock": [STOCK_HALF]})
    given(monkeypatch, "--study", json.dumps(study.model_dump(mode="json", by_alias=True)))
    check_machine.main()
    assert capsys.readouterr().err.startswith("hf-dense-bfloat16 is not timed: precision bfloat16 ")


STAND_IN = """#!/bin/sh
echo "$2" >> modules
case "$2" in *check_machine) echo 'error: systems.eight: precision int8 is slow' >&2; exit 1;; esac
"""


@pytest.mark.slow
@pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python")
def test_a_run_that_this_machine_refuses_starts_no_job(tmp_path: Path):
    copy = copy_project(tmp_path / FOLDER)
    stand_in = tmp_path / "bin" / "python"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN, encoding="utf-8")
    stand_in.chmod(0o755)
    copy.environment["PATH"] = f"{stand_in.parent}:{copy.environment['PATH']}"
    run = ("--cores", "1", "--configfile", "config/tiny.yaml")
    for _ in range(2):  # and leaves no lock
        done = copy.snakemake(*run)
        assert done.returncode == 1
        assert "error: systems.eight: precision int8 is slow" in done.stderr
        assert "this machine cannot run the study as it stands; no job was started" in done.stderr
    assert set((copy.folder / "modules").read_text(encoding="utf-8").split()) == {"workflow_scripts.check_machine"}
    # preparing text and drawing figures asks nothing of the machine
    assert "check_machine" not in copy.snakemake(*run, "--until", "prepare_text").stderr
    assert (copy.folder / "modules").read_text(encoding="utf-8").split()[2:] == ["workflow_scripts.prepare_text"]
