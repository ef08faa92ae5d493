"""`eat monitor`: the index and the tests, the rate of false alarms, the alarm of a server, and what is refused."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from exported import exported
from scipy.stats import binom

from eat.cli import main
from eat.errors import DamagedFile, EatError
from eat.monitor.comparison import compare, false_alarms, psi
from eat.monitor.observations import Observation, Observations, read_log
from eat.monitor.profile import Profile, learn_profile, read_profile
from eat.monitor.rolling import QUIET, RollingMonitor
from eat.runtime import AdaptiveClassifier
from eat.runtime.manifest import MANIFEST, PROFILE

REDUCER = {"kind": "norm", "after": [1, 3], "ratio": 0.3}
POINT = {"rule": ["confidence"], "tau": 0.7, "temperatures": {1: 1.3, 2: 0.7, 4: 2.0}}
USUAL = [row["text"] for row in tiny.table(500).to_dict("records")]
LONG = [" ".join([text] * 3) for text in USUAL[:200]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with early exits and removal, and its profile."""
    at = tmp_path_factory.mktemp("monitored")
    exported(at, point=POINT, exits=[1, 2], reducer=REDUCER)
    learn_profile(at / "out", USUAL[:400], resamples=100)
    (at / "usual.txt").write_text("\n".join(USUAL[400:]) + "\n", encoding="utf-8")
    (at / "long.txt").write_text("\n".join(LONG) + "\n", encoding="utf-8")
    return at


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the export, to damage."""
    return Path(shutil.copytree(folder / "out", tmp_path / "copy"))


def drawn(n: int, seed: int, shift: float = 0.0, late: float = 0.0) -> Observations:
    """Made observations: confidence, and depth with a share `late` moved to the last layer."""
    draw = np.random.default_rng(seed)
    depth = draw.choice([1, 2, 4], n, p=[0.5 - late, 0.3, 0.2 + late])
    label = draw.choice(["negative", "positive"], n, p=[0.55, 0.45])
    confidence = np.clip(draw.beta(6, 2, n) - shift, 0.0, 1.0)
    retention = np.round(np.where(depth > 1, 0.7, 1.0) - draw.uniform(0, 0.05, n), 4)
    return Observations(depth.astype(np.int64), label, confidence, retention)


def test_the_index_is_that_of_its_definition() -> None:
    # shares with half a text added to each bin: 50.5/101, 50.5/101 and 80.5/101, 20.5/101
    expected = (80.5 - 50.5) / 101 * math.log(80.5 / 50.5) + (20.5 - 50.5) / 101 * math.log(20.5 / 50.5)
    assert psi(np.array([50, 50]), np.array([80, 20])) == pytest.approx(expected)
    assert psi(np.array([50, 50]), np.array([50, 50])) == 0.0
    assert math.isfinite(psi(np.array([10, 0]), np.array([0, 10])))


def test_windows_of_the_reference_raise_no_more_alarms_than_stated() -> None:
    # 500 resamples at a level of 5 %: more than the 99.9 % quantile of the binomial is not chance
    found = false_alarms(drawn(2000, seed=1), window=200, resamples=500, level=0.05)
    assert found.alarms <= binom.ppf(0.999, 500, 0.05)
    low, high = found.interval
    assert low <= found.rate <= high


@pytest.mark.parametrize("change", [{"shift": 0.2}, {"late": 0.4}])
def test_a_shift_is_found_and_named(change: dict[str, float]) -> None:
    found = compare(drawn(2000, seed=1), drawn(200, seed=2, **change))
    assert found.alarm
    assert ("confidence" if "shift" in change else "depth") in found.differing


def test_a_significant_but_small_shift_is_quiet() -> None:
    found = compare(drawn(20000, seed=1), drawn(20000, seed=2, late=0.03))
    [depth] = [shift for shift in found.shifts if shift.quantity == "depth"]
    assert depth.p < 1e-6
    assert not depth.differs


def test_what_never_varies_is_not_compared() -> None:
    same = drawn(300, seed=1)
    constant = Observations(np.full(300, 4), same.label, same.confidence, np.ones(300))
    assert {shift.quantity for shift in compare(constant, constant).shifts} == {"label", "confidence"}


def test_a_depth_that_the_reference_never_had_is_found() -> None:
    shallow = drawn(500, seed=1)
    new = drawn(100, seed=2)
    deep = Observations(np.full(100, 9), new.label, new.confidence, new.retention)
    assert "depth" in compare(shallow, deep).differing


def test_the_profile_holds_no_texts_and_both_ways_of_running(folder: Path) -> None:
    content = (folder / "out" / PROFILE).read_text()
    assert not any(word in content for word in (*tiny.GOOD, *tiny.NEUTRAL))
    profile = read_profile(folder / "out")
    assert len(profile.early) == 400
    assert profile.full_depth is not None
    assert set(profile.full_depth.depth) == {4}
    assert profile.early.depth.mean() < 4
    model = AdaptiveClassifier.load(folder / "out")
    assert profile.early.depth.tolist() == [answer.depth for answer in model(USUAL[:400])]
    assert [row.window for row in profile.false_alarms] == [100, 200]


def test_the_command_is_quiet_on_usual_texts_and_raises_an_alarm_on_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, status in (("usual.txt", 0), ("long.txt", 2)):
        with pytest.raises(SystemExit) as ended:
            main(["monitor", str(folder / "out"), "--window", str(folder / name), "--resamples", "100"])
        assert ended.value.code == status
        out = capsys.readouterr().out
        assert ("ALARM" in out) == (status == 2)
        assert "of 100 (" in out


def test_a_server_log_is_a_window(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    model = AdaptiveClassifier.load(folder / "out")
    lines: list[dict[str, Any]] = [{"event": "started"}]
    for encoding in model.encode(USUAL[400:]):
        seen = Observation.of(model.trace(encoding))
        answer = {name: getattr(seen, name) for name in ("label", "confidence", "depth", "retention")}
        lines.append({"event": "request", "status": 200, "full_depth": False, "answers": [answer]})
    lines.append({"event": "request", "status": 429})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "req')
    found, full_depth = read_log(log)
    assert len(found) == 100
    assert not full_depth
    with pytest.raises(SystemExit) as ended:
        main(["monitor", str(folder / "out"), "--window", str(log), "--resamples", "100"])
    assert ended.value.code == 0
    assert "100 texts" in capsys.readouterr().out


def rows(observations: Observations) -> list[Observation]:
    return [
        Observation(int(depth), str(label), float(confidence), float(retention))
        for depth, label, confidence, retention in zip(
            observations.depth, observations.label, observations.confidence, observations.retention, strict=True
        )
    ]


def test_the_alarm_of_a_server_ends_only_after_several_quiet_comparisons() -> None:
    reference = drawn(2000, seed=1)
    monitor = RollingMonitor(Profile("", reference, None, ()), window=100)
    judged = [monitor.add(row) for row in rows(drawn(100, seed=3, shift=0.3))]
    assert [item.changed for item in judged if item] == [True]
    assert monitor.alarm
    states = [item.alarm for row in rows(drawn(400, seed=4)) if (item := monitor.add(row))]
    # the first comparison still holds 50 shifted texts; after QUIET quiet ones in a row the alarm is over
    assert states.index(False) >= QUIET
    assert states[-1] is False
    assert sum(before != after for before, after in pairwise(states)) == 1


def test_an_alarm_that_returns_soon_lasts_longer() -> None:
    monitor = RollingMonitor(Profile("", drawn(2000, seed=1), None, ()), window=100)
    durations = []
    for seed in (3, 5):
        for row in rows(drawn(150, seed=seed, shift=0.3)):
            monitor.add(row)
        assert monitor.alarm
        count = 0
        for row in rows(drawn(2000, seed=seed + 1)):
            if not monitor.alarm:
                break
            count += monitor.add(row) is not None
        durations.append(count)
    assert durations[1] >= durations[0] + QUIET


def test_at_full_depth_the_window_is_compared_with_the_profile_at_full_depth() -> None:
    early, full = drawn(2000, seed=1), drawn(2000, seed=2, late=0.5)
    monitor = RollingMonitor(Profile("", early, full, ()), window=100, fallback=True)
    for row in rows(drawn(100, seed=3, shift=0.3)):
        monitor.add(row)
    assert monitor.full_depth
    assert monitor.add(rows(drawn(1, seed=4))[0], full_depth=False) is None  # accepted before the change
    # a whole window, and then QUIET - 1 halves of it
    judged = [monitor.add(row, full_depth=True) for row in rows(drawn(200, seed=4, late=0.5))]
    assert [item.alarm for item in judged if item] == [True] * (QUIET - 1) + [False]
    assert not monitor.full_depth


FAULTS: dict[str, tuple[list[str], str]] = {
    "no folder": (["{none}", "--window", "{usual}"], "no manifest.json"),
    "neither": (["{out}"], "one of the arguments --learn --window is required"),
    "both": (["{out}", "--learn", "{usual}", "--window", "{usual}"], "not allowed with argument"),
    "no file": (["{out}", "--window", "{none}.txt"], "no such file"),
    "unknown ending": (["{out}", "--window", "{usual}.docx"], "is not one of"),
    "empty file": (["{out}", "--window", "{empty}"], "an empty file"),
    "only empty texts": (["{out}", "--window", "{blank}"], "no text"),
    "too few texts": (["{out}", "--window", "{few}"], "needs at least 50"),
    "too few to learn": (["{out}", "--learn", "{few}"], "give at least 200 texts"),
    "level 0": (["{out}", "--window", "{usual}", "--level", "0"], "--level: found 0"),
    "few resamples": (["{out}", "--window", "{usual}", "--resamples", "1"], "--resamples: found 1"),
    "last 0": (["{out}", "--window", "{usual}", "--last", "0"], "--last: found 0"),
    "no column": (["{out}", "--window", "{table}", "--text", "body"], "no column 'body'"),
    "several columns": (["{out}", "--window", "{table}"], "name one with --text"),
    "three columns": (["{out}", "--window", "{table}", *["--text", "a"] * 3], "found 3 columns"),
    "log without answers": (["{out}", "--window", "{silent}"], "holds no answers"),
    "damaged log": (["{out}", "--window", "{broken}"], "line 2"),
    "no profile": (["{bare}", "--window", "{usual}"], "has no profile.json"),
    "not exported": (["{model}", "--window", "{usual}"], "a model that is not exported (config.json, but no"),
    "not UTF-8": (["{out}", "--window", "{latin}"], "not UTF-8 text"),
    "ragged rows": (["{out}", "--window", "{ragged}", "--text", "a"], "line 3: 3 cells, and 2 before"),
    "header": (["{out}", "--window", "{table}", "--header", "no"], "--header: found 'no'; allowed: first_line, none"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_input_is_one_line(
    fault: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "empty.txt": "", "blank.txt": " \n \n", "few.txt": "word1\n" * 20, "table.csv": "a,b\nword1,word2\n",
        "ragged.csv": "a,b\nx,y\nx,y,z\n", "silent.jsonl": '{"event": "started"}\n',
        "broken.jsonl": '{"event": "started"}\n{"event": "request", "answers": [{"label": "a"}]}\n\n',
    }  # fmt: skip
    places = {"none": tmp_path / "none", "out": folder / "out", "usual": folder / "usual.txt"}
    for name, content in files.items():
        places[name.split(".")[0]] = tmp_path / name
        (tmp_path / name).write_text(content)
    places["latin"] = tmp_path / "latin.txt"
    places["latin"].write_bytes("größe\n".encode("cp1252") * 60)
    places["model"] = folder / "model"
    places["bare"] = Path(shutil.copytree(folder / "out", tmp_path / "bare"))
    (places["bare"] / PROFILE).unlink()
    arguments, message = FAULTS[fault]
    with pytest.raises(SystemExit) as ended:
        main(["monitor", *[argument.format(**places) for argument in arguments]])
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_full_disk_and_an_interrupt_leave_the_profile_as_it_was(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = tmp_path / "usual.txt"
    usual.write_text("\n".join(USUAL[:200]), encoding="utf-8")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    for instead, status, message in (
        (full, 1, f"error: {os.strerror(errno.ENOSPC)}; free some space and give the command again"),
        (stop, 130, "interrupted; nothing was written"),
    ):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("os.fsync", instead)
            main(["monitor", str(copy), "--learn", str(usual), "--resamples", "100"])
        assert ended.value.code == status
        assert capsys.readouterr().err.splitlines()[-1] == message
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_profile_of_another_model_or_a_damaged_one_is_refused(copy: Path) -> None:
    content = json.loads((copy / PROFILE).read_text())
    (copy / PROFILE).write_text(json.dumps({**content, "model": "0" * 64}))
    with pytest.raises(EatError, match="is of another model"):
        read_profile(copy)
    for damaged in ({**content, "format": 2}, {**content, "early": {}}, {**content, "early": {"depth": [1]}}):
        (copy / PROFILE).write_text(json.dumps(damaged))
        with pytest.raises(DamagedFile, match="write it again"):
            read_profile(copy)
    (copy / PROFILE).write_text("{")
    with pytest.raises(DamagedFile):
        read_profile(copy)


def test_without_thresholds_there_is_no_full_depth_to_compare_with(tmp_path: Path) -> None:
    exported(tmp_path)
    profile = learn_profile(tmp_path / "out", USUAL[:200], resamples=100)
    assert profile.full_depth is not None  # a dense model always runs so
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    (tmp_path / "out" / MANIFEST).write_text(
        json.dumps({**manifest, "operating_point": {**manifest["operating_point"], "rule": ["agreement"]}})
    )
    assert not AdaptiveClassifier.load(tmp_path / "out").runs_at_full_depth
