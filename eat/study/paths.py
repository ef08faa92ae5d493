"""The paths of all files of a study, for the rules and for the commands.

Each name may also be a wildcard such as `{task}`, so that a rule's pattern and a job's path are defined once. All paths
are relative to the folder in which the workflow runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eat.errors import EatError

BACKBONE_FILES = ("config.json", "model.safetensors", "tokenizer.json")
CURVES = ("exits", "retention", "lengths", "reliability", "cost")
"""Tables of the summary that figures are drawn from."""
TABLES = ("results", "throughput", "frontier", "calibration", "paper")
CLAIMS = ("claims/eat.yaml", "claims/magic_pyramid.yaml", "claims/adapler.yaml")
"""The claims of each paper, in the order of the report."""
TEMPLATES = (
    "results.tex.jinja",
    "results_section.tex.jinja",
    "report.html.jinja",
    "macros.html.jinja",
    "report.css",
    "report.js",
    "published.yaml",
    *CLAIMS,
)


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study."""

    study: str

    @property
    def data(self) -> Path:
        """Prepared text and pretrained weights."""
        return Path("data") / self.study

    @property
    def results(self) -> Path:
        """Everything that is computed from them."""
        return Path("results") / self.study

    def split(self, task: str, split: str) -> Path:
        """One split of a task's text."""
        return self.data / task / f"{split}.parquet"

    def card(self, task: str) -> Path:
        """The card of a task's text: labels, counts, digests."""
        return self.data / task / "card.json"

    def backbone(self, backbone: str) -> Path:
        """The folder of a pretrained model."""
        return self.data / "backbones" / backbone

    def model(self, task: str, system: str, seed: int | str, stage: str) -> Path:
        """The folder of a trained stage."""
        return self.results / "models" / task / system / f"seed{seed}" / stage

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of running and interrupted stages, each in a folder named by its hash."""
        return self.results / "checkpoints"

    def trace(self, task: str, system: str, seed: int | str, split: str) -> Path:
        """The trace of a system over a split."""
        return self.results / "traces" / task / system / f"seed{seed}" / f"{split}.parquet"

    def calibration(self, task: str, system: str, seed: int | str) -> Path:
        """The temperatures of a system's exits."""
        return self.results / "calibration" / task / system / f"seed{seed}.json"

    def operating_points(self, task: str) -> Path:
        """Every threshold of every system, from the traces."""
        return self.results / "operating_points" / f"{task}.parquet"

    def timing(self, task: str) -> Path:
        """Every timed call; the machine's state is in `timing_state`."""
        return self.results / "timing" / f"{task}.parquet"

    def timing_state(self, task: str) -> Path:
        """Facts about the timing: systems, machine, and agreement with the trace."""
        return self.results / "timing" / f"{task}.json"

    def clock(self, machine: str) -> Path:
        """The lock of timing on a machine, which is shared by all studies."""
        return Path("results") / f".clock-{machine}"

    @property
    def summary(self) -> Path:
        """One row per task, system and threshold."""
        return self.results / "summary.csv"

    def paper_summary(self, task: str) -> Path:
        """The paper's own columns for a task."""
        return self.results / f"summary_{task}.csv"

    def ablation_summary(self, task: str) -> Path:
        """The study's ablation for a task."""
        return self.results / f"summary_ablation_{task}.csv"

    @property
    def buckets(self) -> Path:
        """Speed-up, accuracy and work by the length of the text."""
        return self.results / "buckets.csv"

    @property
    def promises(self) -> Path:
        """The promised risk of thresholds, and the risk on dev."""
        return self.results / "promises.csv"

    @property
    def triage(self) -> Path:
        """What is missed, raised in vain and sent to a person, and what it costs; if a task has `triage`."""
        return self.results / "triage.csv"

    def importance(self, task: str) -> Path:
        """The rank correlation of each score of importance with gradient saliency."""
        return self.results / "importance" / f"{task}.csv"

    @property
    def metrics(self) -> Path:
        """The headline figures."""
        return self.results / "metrics.json"

    def curve(self, curve: str) -> Path:
        """The data behind a figure."""
        return self.results / "curves" / f"{curve}.csv"

    def result(self, name: str, task: str) -> Path:
        """The path of a table by its name, as in the `reads` of figures.

        name: that of a property (`summary`), of a method that takes a task (`timing`), or of a method with its own
        argument (`curve:exits`). Raises `EatError` if there is none.
        """
        method, _, argument = name.partition(":")
        place = getattr(self, method, None)
        path = place(argument or task) if callable(place) else place
        if not isinstance(path, Path) or not path.suffix:
            raise EatError(f"no table {name!r} in the results; use a name from StudyPaths, such as summary")
        return path

    def figure(self, figure: str, task: str, ending: str) -> Path:
        """A figure of a task."""
        return self.results / "figures" / f"{figure}_{task}.{ending}"

    def study_figure(self, figure: str, ending: str) -> Path:
        """A figure of the whole study."""
        return self.results / "figures" / f"{figure}.{ending}"

    @property
    def records(self) -> Path:
        """Snakemake's records of all outputs, collected in one file."""
        return self.results / "records.json"

    def log(self, *parts: str) -> Path:
        """The log of a job."""
        return self.results.joinpath("logs", *parts[:-1], f"{parts[-1]}.log")

    def benchmark(self, *parts: str) -> Path:
        """Duration and memory of a job, measured by Snakemake."""
        return self.results.joinpath("benchmarks", *parts[:-1], f"{parts[-1]}.tsv")

    @property
    def tables(self) -> Path:
        """The folder of the LaTeX tables."""
        return self.results / "tables"

    def table(self, kind: str, task: str) -> Path:
        """A LaTeX table of a task."""
        return self.tables / f"{kind}_{task}.tex"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.results / "report"

    @property
    def pdf(self) -> Path:
        """The report as a PDF. It is made on demand (`render_pdf`) and is not among the versioned results."""
        return Path("results") / f"{self.study}.pdf"
