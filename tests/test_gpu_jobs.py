"""Which jobs ask for a GPU, and to which partition `profiles/slurm` sends them; no GPU and no Slurm is needed."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from project_copy import FOLDER, ROOT, SNAKEMAKE, Copy, copy_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python"),
]

TRAINING = {"finetune", "trace_teacher"}
ANSWERS = {"trace", "compare_importance", "measure_time"}


PUBLISHED = Path("docs/results/gpu.csv")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which the command of each rule with the resource `gpu` ends with its value."""
    copy = copy_project(tmp_path_factory.mktemp("shown") / FOLDER)
    for file in (copy.folder / "rules").glob("*.smk"):
        head, *rules = re.split(r"^(?=rule )", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for number, rule in enumerate(rules):
            if re.search(r"^        gpu=gpus", rule, re.MULTILINE):
                name = rule.removeprefix("rule ").partition(":")[0]
                rules[number] = rule.replace("| tee {log:q}", f"| tee {{log:q}} # {name} gpu={{resources.gpu}}")
        file.write_text("".join([head, *rules]), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def trains_on_gpu(copy: Copy) -> str:
    """The commands of a study that names CUDA for training alone; no run on a GPU was published."""
    return commands(copy, training={"device": "cuda"})


@pytest.fixture(scope="module")
def times_on_gpu(copy: Copy, trains_on_gpu: str) -> str:
    """The commands of a study that names CUDA for the timing alone; a run on a GPU was published."""
    (copy.folder / PUBLISHED).parent.mkdir(parents=True)
    (copy.folder / PUBLISHED).touch()
    # auto takes a GPU that is there, and does not ask for one
    return commands(copy, training={"device": "auto"}, timing={"device": "cuda"})


def commands(copy: Copy, **sections: dict[str, Any]) -> str:
    """What a dry run prints of a study with these sections."""
    study = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["systems"] = {name: study["systems"][name] for name in ("dense-6", "student-3", "eat-6")}
    study["importance_texts"] = 8
    for name, section in sections.items():
        study[name] = {**study.get(name, {}), **section}
    study["timing"]["stock"] = []
    (copy.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    done = copy.snakemake("-n", "-p", "--cores", "1", "--configfile", "config/study.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize(("plan", "on_gpu"), [("trains_on_gpu", TRAINING), ("times_on_gpu", ANSWERS)])
def test_a_job_asks_for_a_gpu_if_its_phase_names_cuda(
    request: pytest.FixtureRequest, plan: str, on_gpu: set[str]
) -> None:
    found: dict[str, set[str]] = {}
    for rule, number in re.findall(r"# (\w+) gpu=(\d+)", request.getfixturevalue(plan)):
        found.setdefault(rule, set()).add(number)
    assert found == {rule: {"1" if rule in on_gpu else "0"} for rule in TRAINING | ANSWERS}


def test_several_gpus_are_requested_for_training_alone(copy: Copy) -> None:
    plan = commands(copy, training={"device": "cuda", "gpus": 4, "threads": 1})
    assert set(re.findall(r"# (\w+) gpu=(\d+)", plan)) >= {("finetune", "4"), ("trace_teacher", "1"), ("trace", "0")}


def test_the_report_reads_a_run_on_a_gpu_once_it_is_published(trains_on_gpu: str, times_on_gpu: str) -> None:
    assert "workflow_scripts.report_page" in trains_on_gpu and "--gpu" not in trains_on_gpu
    assert re.search(rf"workflow_scripts\.report_page .* --gpu {PUBLISHED} ", times_on_gpu)


def test_the_slurm_profile_leaves_the_partition_to_the_gpus_of_a_job() -> None:
    folder = ROOT / "profiles" / "slurm"
    profile = yaml.safe_load((folder / "profile.yaml").read_text(encoding="utf-8"))
    partitions = yaml.safe_load((folder / profile["slurm-partition-config"]).read_text(encoding="utf-8"))["partitions"]
    assert any(partition["max_gpu"] == 0 for partition in partitions.values())
    assert any(partition["max_gpu"] > 0 for partition in partitions.values())
    for resources in (profile["default-resources"], *profile["set-resources"].values()):
        assert not {"slurm_partition", "gres", "gpu"} & resources.keys()


@pytest.mark.parametrize(("gpus", "partition"), [(0, "cpu"), (1, "gpu"), (4, "gpu")])
def test_the_plugin_sends_a_job_to_the_partition_that_has_its_gpus(gpus: int, partition: str) -> None:
    reason = "snakemake-executor-plugin-slurm is not installed"
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm.partitions", reason=reason)
    utils = pytest.importorskip("snakemake_executor_plugin_slurm.utils", reason=reason)
    resources = Resources(gpu=gpus, mem_mb=8000, runtime=720)
    job = SimpleNamespace(name="finetune", threads=1, resources=resources)
    log = SimpleNamespace(debug=lambda text: None, info=lambda text: None, warning=lambda text: None)
    found = plugin.read_partition_file(Path(ROOT) / "profiles" / "slurm" / "partitions.yaml")
    assert plugin.get_best_partition(found, job, log) == partition
    assert utils.set_gres_string(job) == (f" --gpus={gpus}" if gpus else "")


class Resources(dict[str, Any]):
    """The resources of a job, by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
