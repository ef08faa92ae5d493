"""Only what is invalid reruns: each row of docs/versioning.md, on a copy of the workflow under git and DVC.

The copy lies in a folder with a space and an accent in its name. Its rules, parameters, sources and records are the
real ones; each command is a stand-in whose outputs are digests of its arguments and inputs, so that another parameter
gives another result and the same parameter the same. `make test-workflow` runs these tests; `make test` does not.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from project_copy import FOLDER, SNAKEMAKE, Copy, copy_project
from synthetic_results import DENSE, EAT, STUDY_FIGURES, TASK_FIGURES, Made, write_study

from eat.study.paths import CURVES
from workflow_scripts._phases import command_of
from workflow_scripts._records import DATE_SECONDS
from workflow_scripts._sources import sources_of

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(not SNAKEMAKE.with_name("dvc").is_file(), reason="dvc is not installed beside python"),
]

PYTHON_STAND_IN = f"""#!/bin/sh
# only what gathers records, and what DVC calls for a phase, is real
case "$2" in workflow_scripts.record|workflow_scripts.run_phase) exec '{sys.executable}' "$@";; esac
printf '%s\\n' "$@"
"""
MAKE_OUTPUTS = """#!/bin/sh
# everything before -- goes into the content of everything behind it
sum=""
while [ "$1" != "--" ]; do sum="$sum$(cksum < "$1")"; shift; done
shift
for file in "$@"; do
    made=$(printf '%s%s' "$sum" "$file" | cksum | cut -d ' ' -f 1)
    case "$file" in
        # the axes that dvc.yaml names for the curves
        *.csv)
            printf 'exit,fraction,layer,observed,length_mean,retention,confidence,accuracy,' > "$file"
            printf 'observed_ms,predicted_ms\\n4,%s,4,%s,9,%s,' "$made" "$made" "$made" >> "$file"
            printf '1,%s,2,%s\\n' "$made" "$made" >> "$file" ;;
        *) printf '{"value": %s}\\n' "$made" > "$file" ;;
    esac
done
"""
QUEUE_SECONDS = 600
"""How long an experiment in a queue may take before the test gives it up."""
BELOW_TIMING = {
    "summarize", "plot_figure", "render_tables", "render_report", "record",
}  # fmt: skip


class Repository(Copy):
    """A copy of the project under git and DVC."""

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments).stdout

    def versioning(self, action: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "workflow_scripts.versioning", action, check=check)

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def wanted(self) -> set[str]:
        """The rules that a dry run names."""
        return {rule for rule, _ in self.pending("config.yaml")}

    def dirty(self) -> set[str]:
        """The stages that `dvc status` names."""
        return set(json.loads(self.dvc("status", "--json") or "{}"))

    def edit(self, path: str, text: str = "\n# edited\n") -> None:
        with (self.folder / path).open("a", encoding="utf-8") as file:
            file.write(text)

    def change(self, *keys: Any, value: Any) -> None:
        """Set one key of the configuration."""
        path = self.folder / "config" / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        place = config
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(yaml.safe_dump(config), encoding="utf-8")


def build(folder: Path, tools: Path) -> Repository:
    """A repository in which the study was run and recorded once."""
    copied = copy_project(folder)
    tiny = yaml.safe_load((folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    tiny["study"] = "small"
    tiny["systems"] = {name: tiny["systems"][name] for name in ("dense-6", "student-3", "eat-6")}
    for file in (folder / "config").glob("*.yaml"):
        file.unlink()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    for rules in (folder / "rules").glob("*.smk"):
        if rules.name != "record.smk":
            text = rules.read_text(encoding="utf-8")
            ending = '2>&1 | tee {log:q} && make_outputs {log:q} {input:q} -- {output:q}"'
            rules.write_text(text.replace('2>&1 | tee {log:q}"', ending), encoding="utf-8")
    tools.mkdir(parents=True)
    for name, content in {"python": PYTHON_STAND_IN, "make_outputs": MAKE_OUTPUTS}.items():
        (tools / name).write_text(content, encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = copied.environment | {"PATH": f"{tools}{os.pathsep}{copied.environment['PATH']}"}
    repository = Repository(folder, environment)
    (folder / ".gitignore").write_text(".snakemake/\n/data/*\n/results/*\n", encoding="utf-8")
    repository.run("git", "init", "--quiet")
    repository.dvc("init", "--quiet")
    repository.dvc("config", "cache.type", "reflink,copy")
    repository.dvc("config", "core.analytics", "false")
    repository.dvc("remote", "add", "--default", "local", str(tools.parent / "remote"))
    repository.run(sys.executable, "-m", "workflow_scripts.write_dvc_yaml")
    full_run(repository)
    repository.versioning("record")
    repository.commit("first")
    return repository


def full_run(repository: Repository) -> None:
    done = repository.snakemake("--cores", "1")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository that each test gets a copy of."""
    base = tmp_path_factory.mktemp("versioned")
    return build(base / FOLDER, base / "bin")


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    """A copy of its own, with the dates of all files kept."""
    folder = tmp_path / FOLDER
    shutil.copytree(template.folder, folder, symlinks=True)
    return Repository(folder, template.environment)


def test_after_a_full_run_nothing_is_wanted(repository: Repository) -> None:
    assert repository.wanted() == set()
    assert repository.dirty() == set()


def test_touching_every_file_in_random_order_changes_nothing(repository: Repository) -> None:
    files = [path for path in repository.folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    files = [path for path in files if not {".dvc", ".snakemake"} & set(path.parts)]
    random.Random(0).shuffle(files)
    for number, path in enumerate(files):
        os.utime(path, (1.9e9 + number, 1.9e9 + number))
    assert repository.wanted() == set()
    assert repository.dirty() == set()


def test_an_edited_figure_wants_itself_and_the_report(repository: Repository) -> None:
    repository.edit("eat/figures/frontier.py")
    assert repository.wanted() == {"plot_figure", "render_report", "record"}
    assert repository.dirty() == {"figures"}


def test_an_edited_graph_wants_the_rows_in_onnx_runtime_and_no_training(repository: Repository) -> None:
    """The teacher's trace does not import the graph either, though its students are trained from that trace."""
    repository.edit("eat/model/graph_onnx.py")
    traced = {Path(path).parts[-3] for rule, path in repository.pending("config.yaml") if rule == "trace"}
    assert traced and all(system.startswith("hf-dense-onnx") for system in traced)
    assert repository.wanted() == {
        "trace", "calibrate", "find_operating_points", "measure_time", "plot_study_figure", *BELOW_TIMING,
    }  # fmt: skip


def test_a_new_threshold_wants_timing_and_below_but_no_training(repository: Repository) -> None:
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    assert repository.wanted() == {"find_operating_points", "measure_time", "plot_study_figure"} | BELOW_TIMING
    assert repository.dirty() == {"calibrate", "timing", "summarize", "figures", "report"}


def test_a_learning_rate_wants_its_system_alone(repository: Repository) -> None:
    repository.change("systems", "eat-6", "recipe", value=[{"epochs": 1, "learning_rate": 1e-5}])
    trained = [path for rule, path in repository.pending("config.yaml") if rule in ("finetune", "trace")]
    assert trained and all("/eat-6/" in path for path in trained)
    assert repository.wanted() == {
        "finetune", "trace", "calibrate", "find_operating_points", "measure_time", "plot_study_figure", *BELOW_TIMING,
    }  # fmt: skip
    assert repository.dirty() == {"finetune"}


@pytest.mark.parametrize("what", ["comment", "threads", "profile"])
def test_what_does_not_matter_changes_nothing(repository: Repository, what: str) -> None:
    if what == "comment":
        repository.edit("config/config.yaml", "\n# a remark\n")
    elif what == "threads":
        repository.change("training", "threads", value=2)
    else:
        repository.edit("profiles/default/profile.yaml", "\nset-resources:\n  finetune:\n    mem_mb: 4000\n")
    assert repository.wanted() == set()
    assert repository.dirty() == set()


def test_an_edited_module_wants_the_rules_that_import_it(repository: Repository) -> None:
    repository.edit("eat/results/flops.py")
    importing = {
        rule
        for rule in (
            "prepare_text",
            "finetune",
            "trace",
            "calibrate",
            "find_operating_points",
            "measure_time",
            "summarize",
        )
        if "eat/results/flops.py" in sources_of(command_of(rule))
    }
    assert importing == {"calibrate", "find_operating_points", "measure_time", "summarize"}
    assert repository.wanted() == importing | BELOW_TIMING
    assert repository.dirty() == {"calibrate", "timing", "summarize"}


def test_two_values_that_change_places_are_seen(repository: Repository) -> None:
    timing = yaml.safe_load((repository.folder / "config" / "config.yaml").read_text(encoding="utf-8"))["timing"]
    repository.change("timing", value=timing | {"passes": 3, "repeats": 2})
    full_run(repository)
    repository.versioning("record")
    repository.change("timing", value=timing | {"passes": 2, "repeats": 3})
    assert repository.wanted() == {"measure_time"} | BELOW_TIMING
    assert repository.dirty() == {"timing", "summarize", "report"}


def test_an_old_commit_and_back(repository: Repository) -> None:
    old = repository.git("rev-parse", "HEAD").strip()
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    full_run(repository)
    repository.versioning("record")
    new = repository.commit("another threshold")
    results = {}
    for commit in (old, new, old):
        repository.git("checkout", "--quiet", commit)
        repository.versioning("sync")
        assert repository.wanted() == set()
        assert repository.dirty() == set()
        found = (repository.folder / "results" / "small" / "summary.csv").read_text(encoding="utf-8")
        assert results.setdefault(commit, found) == found
    assert results[old] != results[new]


def pulled_clone(repository: Repository, folder: Path) -> Repository:
    repository.dvc("push", "--quiet")
    repository.run("git", "clone", "--quiet", str(repository.folder), str(folder))
    return Repository(folder, repository.environment)


def test_a_fresh_clone_pulls_and_syncs(repository: Repository, tmp_path: Path) -> None:
    clone = pulled_clone(repository, tmp_path / "a clone")
    clone.dvc("pull", "--quiet")
    refused = clone.snakemake("--dry-run")
    assert (
        refused.returncode != 0 and "make sync" in refused.stdout + refused.stderr
    )  # without records it must not say `nothing`
    clone.versioning("sync")
    assert clone.wanted() == set()
    assert clone.dirty() == set()


def test_a_script_edited_before_the_pull_wants_exactly_its_rules(repository: Repository, tmp_path: Path) -> None:
    clone = pulled_clone(repository, tmp_path / "a clone")
    clone.edit("eat/figures/frontier.py")
    clone.dvc("pull", "--quiet")
    clone.versioning("sync")
    assert clone.wanted() == {"plot_figure", "render_report", "record"}
    assert clone.dirty() == {"figures"}


def test_lost_records_are_never_passed_over(repository: Repository) -> None:
    shutil.rmtree(repository.folder / ".snakemake")
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    refused = repository.snakemake("--dry-run")
    assert refused.returncode != 0 and "no records" in refused.stdout + refused.stderr
    assert repository.dirty() == {"calibrate", "timing", "summarize", "figures", "report"}
    assert "not repaired" in repository.versioning("repair", check=False).stderr
    repository.git("checkout", "--quiet", "config")
    repository.versioning("repair")
    assert repository.wanted() == set()
    assert repository.dirty() == set()


def without_versions(repository: Repository) -> None:
    """As in a copy of the project that was never under git or DVC, and then lost `.snakemake`."""
    for folder in (".git", ".dvc", ".snakemake"):
        shutil.rmtree(repository.folder / folder)
    (repository.folder / "dvc.lock").unlink()


def refusal(repository: Repository, *arguments: str) -> str:
    refused = repository.snakemake("--dry-run", *arguments)
    assert refused.returncode != 0 and "no records" in refused.stdout + refused.stderr
    return refused.stdout + refused.stderr


def test_lost_records_come_back_without_dvc(repository: Repository) -> None:
    without_versions(repository)
    assert "make repair restores them from results/small/records.json" in refusal(repository)
    assert "repaired: records of" in repository.versioning("repair").stdout
    assert repository.wanted() == set()
    assert "nothing to repair" in repository.versioning("repair").stdout
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    assert repository.wanted() == {"find_operating_points", "measure_time", "plot_study_figure"} | BELOW_TIMING
    repository.edit("eat/results/flops.py")
    assert "calibrate" in repository.wanted()


def test_what_changed_while_the_records_were_lost_is_seen(repository: Repository) -> None:
    """A parameter, a source, and a result: the records come back, and say so."""
    without_versions(repository)
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    repository.edit("eat/figures/frontier.py")
    repository.versioning("repair")
    assert repository.wanted() == {"find_operating_points", "measure_time", "plot_study_figure"} | BELOW_TIMING


def test_a_result_that_changed_while_the_records_were_lost_is_made_again(repository: Repository) -> None:
    curve = repository.folder / "results" / "small" / "curves" / "exits.csv"
    before = curve.read_bytes()
    without_versions(repository)
    repository.edit("results/small/curves/exits.csv", "all,1\n")
    done = repository.versioning("repair").stdout
    assert "1 differ from their records and are made again, such as results/small/curves/exits.csv" in done
    assert {"summarize", "record"} <= repository.wanted() <= BELOW_TIMING
    full_run(repository)
    assert curve.read_bytes() == before
    assert repository.wanted() == set()


def test_another_study_is_repaired_by_its_own_file(repository: Repository) -> None:
    without_versions(repository)
    shutil.move(repository.folder / "config" / "config.yaml", repository.folder / "config" / "other.yaml")
    said = refusal(repository, "--configfile", "config/other.yaml")
    assert "python -m workflow_scripts.versioning repair --configfile config/other.yaml restores them" in said
    repository.run(sys.executable, "-m", "workflow_scripts.versioning", "repair", "--configfile", "config/other.yaml")
    # the report prints the command that makes it, which names the file
    assert {rule for rule, _ in repository.pending("other.yaml")} == {"render_report", "record"}


def test_where_nothing_can_restore_the_records(repository: Repository) -> None:
    without_versions(repository)
    (repository.folder / "results" / "small" / "records.json").unlink()
    assert "they cannot be restored here; delete data/small and results/small, or move" in refusal(repository)
    refused = repository.versioning("repair", check=False)
    assert refused.returncode == 1
    assert "there is neither a dvc.lock nor results/small/records.json" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_damaged_record_is_not_trusted(repository: Repository) -> None:
    """As a power loss leaves it; Snakemake would skip it, and miss a changed parameter of this rule in silence."""
    operating_points = "results/small/operating_points/rotten_tomatoes.parquet"
    name = base64.urlsafe_b64encode(operating_points.encode()).decode()
    os.truncate(repository.folder / ".snakemake" / "metadata" / name, 0)
    said = repository.snakemake("--dry-run")
    assert f"{operating_points}: its record is damaged; it is made again" in said.stderr
    assert "find_operating_points" in said.stdout + said.stderr
    assert "find_operating_points" in repository.versioning("record", check=False).stderr
    full_run(repository)
    assert repository.versioning("record").returncode == 0


def test_a_result_edited_by_hand_is_not_recorded(repository: Repository) -> None:
    path = "results/small/report/report.html"
    time.sleep(DATE_SECONDS + 1.0)
    repository.edit(path, "better\n")
    assert "report" in repository.dirty()
    assert path in refusal(repository)
    refused = repository.versioning("record", check=False)
    assert refused.returncode == 1 and path in refused.stderr
    (repository.folder / path).unlink()
    full_run(repository)
    assert repository.versioning("record").returncode == 0
    assert repository.dirty() == set()


def test_an_older_result_in_the_place_of_another_is_not_recorded(repository: Repository) -> None:
    """As put back from a backup, with its date: Snakemake's own comparison passes over it."""
    path = "results/small/curves/exits.csv"
    repository.edit(path, "all,1\n")
    os.utime(repository.folder / path, (1e9, 1e9))
    assert path in refusal(repository)
    assert "not repaired" in repository.versioning("repair", check=False).stderr
    assert path in repository.versioning("record", check=False).stderr
    repository.versioning("sync")
    assert repository.wanted() == set()
    assert repository.dirty() == set()


def test_an_older_source_in_the_place_of_another_is_seen(repository: Repository) -> None:
    """As of another version that was unpacked over this one."""
    repository.edit("eat/figures/frontier.py")
    os.utime(repository.folder / "eat" / "figures" / "frontier.py", (1e9, 1e9))
    repository.edit("report/published.yaml")
    os.utime(repository.folder / "report" / "published.yaml", (1e9, 1e9))
    assert {"plot_figure", "render_tables", "render_report", "record"} <= repository.wanted()
    assert repository.wanted().isdisjoint({"finetune", "trace", "measure_time", "summarize"})
    assert repository.dirty() == {"figures", "report"}
    assert "plot_figure" in repository.versioning("record", check=False).stderr


def test_what_a_result_was_made_from_is_what_is_recorded(repository: Repository) -> None:
    """A result that Snakemake's own record says was made from other content than its input has now."""
    result, read = "results/small/figures/overview.pdf", "eat/figures/style.py"
    name = base64.urlsafe_b64encode(result.encode()).decode()
    place = repository.folder / ".snakemake" / "metadata" / name
    record = json.loads(place.read_text(encoding="utf-8"))
    assert read in record["input_checksums"]
    record["input_checksums"][read] = "sha256:" + "0" * 64
    place.write_text(json.dumps(record), encoding="utf-8")
    assert f"{result} was made from another {read}" in repository.versioning("record", check=False).stderr


def test_a_partial_target_leaves_the_rest_honestly_dirty(repository: Repository) -> None:
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    target = "results/small/operating_points/rotten_tomatoes.parquet"
    assert repository.snakemake("--cores", "1", "--", target).returncode == 0
    again = repository.snakemake("--dry-run", "--", target)
    assert "Nothing to be done" in again.stdout + again.stderr
    assert {"timing", "summarize", "report"} <= repository.dirty()
    assert "not recorded" in repository.versioning("record", check=False).stderr


def test_dvc_runs_the_phases_through_snakemake(repository: Repository) -> None:
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    models = repository.folder / "results" / "small" / "models"
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")}
    repository.dvc("repro", "--quiet")
    assert repository.wanted() == set()
    assert repository.dirty() == set()
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")} == before
    changed = json.loads(repository.dvc("params", "diff", "--json", "HEAD"))["config/config.yaml"]
    assert changed == {"systems.eat-6.exits.tau": {"old": "[0.55, 0.9]", "new": "[0.6, 0.9]"}}
    measured = json.loads(repository.dvc("metrics", "diff", "--json", "HEAD"))
    assert measured["results/small/metrics.json"]["value"]["diff"] != 0
    drawn = json.loads(repository.dvc("plots", "diff", "--json", "HEAD"))
    assert not drawn.get("errors")
    assert {Path(path).stem for path in drawn["data"]} == set(CURVES)


def test_an_experiment_changes_a_parameter(repository: Repository) -> None:
    repository.dvc("exp", "run", "--name", "lower", "-S", "config/config.yaml:systems.eat-6.exits.tau=[0.6,0.9]")
    assert "lower" in repository.dvc("exp", "show", "--csv")
    assert repository.wanted() == set()


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_an_experiment_runs_in_a_folder_that_dvc_makes(template: Repository, tmp_path: Path, how: str) -> None:
    """It holds the results of dvc.lock and no records of Snakemake; what the parameter changes is made, and no more."""
    folder = tmp_path / "a study"  # DVC 3.67 fails here if the path of the cache is not ASCII
    shutil.copytree(template.folder, folder, symlinks=True)
    repository = Repository(folder, template.environment)
    tau = "config/config.yaml:systems.eat-6.exits.tau=[0.6,0.9]"
    said = repository.dvc("exp", "run", how, "--name", "lower", "-S", tau)
    if how == "--queue":
        repository.dvc("queue", "start")
        end = time.monotonic() + QUEUE_SECONDS
        while not any(state in repository.dvc("queue", "status") for state in ("Success", "Failed")):
            assert time.monotonic() < end, repository.dvc("queue", "status")
            time.sleep(1.0)
        said = repository.dvc("queue", "logs", "lower")
    assert "repaired: records of" in said
    assert "Stage 'finetune' didn't change, skipping" in said
    # the current results are those of before, and so are their records
    assert repository.wanted() == set()
    before = (folder / "results" / "small" / "summary.csv").read_bytes()
    repository.dvc("exp", "apply", "lower")
    assert (folder / "results" / "small" / "summary.csv").read_bytes() != before
    repository.versioning("sync")
    assert repository.wanted() == set()
    assert repository.dirty() == set()


def test_two_revisions_are_compared_through_dvc(repository: Repository) -> None:
    """The stand-ins' results hold no numbers: made-up ones are kept in their place, in two commits."""
    results = repository.folder / "results" / "small"
    for speedup in (2.0, 4.0):
        systems = (DENSE, replace(EAT, speedup=speedup))
        made, _ = write_study(repository.folder.parent / f"made {speedup:g}", made=Made(systems=systems))
        for name in ("summary.csv", "timing/rotten_tomatoes.json"):
            (results / name).write_bytes((made / name).read_bytes())
        repository.dvc("commit", "--force", "--no-relink")
        repository.git("add", "dvc.lock")
        repository.git("commit", "--quiet", "--message", f"{speedup:g} times as fast")
    diff = (sys.executable, "-m", "eat.cli", "diff")
    done = repository.run(*diff, "HEAD~1", "HEAD")
    assert "| eat-6 | speed-up, batch 1 |" in done.stdout and "beyond the noise" in done.stdout
    assert "No rule was rerun." in done.stdout
    assert repository.run(*diff, "HEAD~1").stdout.startswith("# HEAD~1 to the current results")
    assert (repository.folder / "results" / "diff" / "diff.html").is_file()
    unknown = repository.run(*diff, "nowhere", check=False).stderr
    assert unknown == "error: the results of nowhere were not found: nowhere: unknown Git revision 'nowhere'\n"


def test_snakemakes_own_report_needs_no_network(repository: Repository) -> None:
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = Repository(repository.folder, repository.environment | nowhere).snakemake("--report", "report.html")
    assert done.returncode == 0, done.stderr
    page = (repository.folder / "report.html").read_text(encoding="utf-8")
    names = {figure: f"{figure}_rotten_tomatoes" for figure in TASK_FIGURES}
    names |= {figure: figure for figure in STUDY_FIGURES}
    for figure, name in names.items():
        caption = (repository.folder / "report" / "captions" / f"{figure}.rst").read_text(encoding="utf-8")
        assert f"{name}.svg" in page
        assert caption.split(",")[0].split(".")[0].strip() in page


def test_dvc_yaml_is_current(tmp_path: Path) -> None:
    """The repository's own `dvc.yaml`; mend it by `python -m workflow_scripts.write_dvc_yaml`."""
    done = subprocess.run(
        [sys.executable, "-m", "workflow_scripts.write_dvc_yaml", "--check"],
        cwd=Path(__file__).resolve().parent.parent,
        # Snakemake needs a cache folder, also where the home directory cannot be written
        env=os.environ | {"EAT_RECORDS_ARE_LOST": "1", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
