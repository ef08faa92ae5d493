"""The report of a study: `results.tex` with `results_section.tex` for a paper, and `report.html` for a reader.

Everything in it comes from files that the run wrote. Numbers pass through `eat.rounding`, claims through
`eat.verdicts`; the templates only place text. Both template environments refuse an undefined value and a bare number,
and escape every string, so that a name out of a configuration is printed and never interpreted.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
import pandas as pd
import yaml
from jinja2.runtime import Undefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, ValidationError

from eat import rounding, tables, verdicts
from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, read_table, replacing, sha256_of, write_text
from eat.paths import FIGURES
from eat.rows import is_true, rows_of
from eat.style import STOCK_AGAIN, STOCK_PREFIX
from eat.tables import Latex, Table
from eat.verdicts import NoiseFloor

Record = dict[Hashable, Any]

NEVER_EMPTY = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "delta_accuracy",
    "delta_low",
    "delta_high",
    "avg_depth",
    "avg_retention",
    "retention_full_depth",
    "flops_ratio",
    "ece_raw",
    "ece_calibrated",
)
"""Columns of summary.csv that hold a number in the row of every trained system."""

TIMED = ("latency_ms_p50", "examples_per_s", "speedup_vs_dense", "speedup_low", "speedup_high", "speedup_mean")
"""Columns that hold a number wherever `n_timed` is above 0."""

_KEYS = (
    "task", "system", "tau", "calibration", "chosen", "within_budget", "batch_size", "device", "dtype", "threads",
    "seeds", "n",
)  # fmt: skip
_MAY_BE_EMPTY = (
    "n_timed",
    "mcnemar_p",
    "latency_ms_p90",
    "speedup_vs_packed_dense",
    "speedup_vs_deep",
    "gflops",
    "gflops_pattern",
    "ece_debiased",
    "ece_debiased_low",
    "ece_debiased_high",
    "brier",
    "nll",
    "temperature",
)


class Provenance(BaseModel):
    """Where a report comes from. Unknown keys are refused; only those with a default may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str
    """The commit of the code, or a few words where there is none."""
    date: str
    """When the run was made, as text; the report reads no clock, so that it can be rendered again byte for byte."""
    command: str
    """The command that makes this study again."""
    reference: str
    """The dense system that plays BERT (`reference` of the configuration)."""
    seeds: list[int]
    """The seeds trained and timed."""
    versions: dict[str, str]
    """Package -> version, of the environment that rendered the report."""
    environment: str = ""
    """The software environment of the run: a virtual environment, conda, a container."""
    modified: bool = False
    """Whether files differed from the commit."""


@dataclass(frozen=True)
class TaskFiles:
    """What a study recorded about one task."""

    name: str
    summary: pd.DataFrame
    paper_columns: pd.DataFrame
    exits: pd.DataFrame
    card: dict[str, Any]
    timing: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure as the templates place it."""

    tex_path: Latex
    svg: Markup
    caption: str


@dataclass(frozen=True)
class TaskReport:
    """All that the report says about one task, as text and tables ready to be placed."""

    name: str
    anchor: str
    facts: tuple[tuple[str, str], ...]
    overview: str
    findings: tuple[tuple[str, str], ...]
    adaptive: tuple[str, ...]
    calibration: tuple[str, ...]
    measuring: tuple[str, ...]
    warning: str
    tables: dict[str, Table]
    figures: dict[str, Figure]


def render_report(
    study_name: str,
    tasks: Sequence[str],
    results_folder: Path | str,
    data_folder: Path | str,
    templates_folder: Path | str,
    provenance: Mapping[str, Any],
    out_folder: Path | str,
) -> list[Path]:
    """Render `results.tex`, `results_section.tex` and `report.html` of a study into `out_folder`; returns the files.

    results_folder: results/{study}. data_folder: data/{study}. templates_folder: the templates, captions/ and
    published.yaml. provenance: see `Provenance`. The LaTeX names figures relative to `out_folder`, which is
    results/{study}/report. A figure of a task whose name TeX cannot hold in a path is copied beside it.

    Raises `EatError` where a file is missing, damaged or of another study, or where a template asks for what is not
    there. Nothing is written unless all of it could be rendered.
    """
    results, data, templates, out = (
        Path(folder) for folder in (results_folder, data_folder, templates_folder, out_folder)
    )
    origin = _provenance(provenance)
    found = _read_tasks(study_name, tasks, results, data)
    counted = {int(number) for task in found for number in task.summary["seeds"]}
    if counted != {len(origin.seeds)}:
        raise EatError(
            f"provenance.seeds names {len(origin.seeds)} seeds ({listed(origin.seeds)}), {results}/summary.csv holds "
            f"{listed(sorted(counted))}; summarise the study again"
        )
    captions = _captions(templates / "captions")
    reports = []
    copies: dict[Path, Path] = {}
    for number, task in enumerate(found, start=1):
        figures = {}
        for kind in FIGURES:
            stem = f"{kind}_{task.name}"
            source = results / "figures" / f"{stem}.pdf"
            if not source.is_file():
                raise DamagedFile(f"{source}: no such file; run the rule that plots it")
            path = Latex(rf"\eatfigures/{stem}.pdf")
            if not re.fullmatch(r"[A-Za-z0-9._-]+", stem):
                path = Latex(rf"\eatreport/{kind}-{number}.pdf")
                copies[out / f"{kind}-{number}.pdf"] = source
            svg = inline_svg(results / "figures" / f"{stem}.svg", prefix=f"t{number}-{kind}-")
            figures[kind] = Figure(path, svg, _caption(captions, kind))
        reports.append(_task_report(task, f"task-{number}", figures, origin.reference))
    published = _published(templates / "published.yaml")
    names = [task.name for task in found]
    summary = pd.concat([task.summary for task in found])
    context = {
        "study": study_name,
        "date": origin.date,
        "tasks": reports,
        "run_facts": _run_facts(origin, found),
        "published": tables.published_table(published, summary, names),
        "published_notes": [f"{_sentence_case(source['title'])}: {source['note']}" for source in published["sources"]],
        "provenance": _provenance_facts(origin),
        "files": _files(results, data, names),
    }
    texts = {
        "results_section.tex": _render(latex_environment(templates), "results_section.tex.jinja", context),
        "results.tex": _render(latex_environment(templates), "results.tex.jinja", context),
        "report.html": _render(html_environment(templates), "report.html.jinja", context),
    }
    for target, source in copies.items():
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    for name, text in texts.items():
        write_text(out / name, text)
    return [*(out / name for name in texts), *copies]


# --- templates ----------------------------------------------------------------------------------------------------


def latex_environment(templates: Path | str) -> jinja2.Environment:
    """Templates with `<< value >>` and `<% statement %>`; every string is escaped for LaTeX, undefined values fail."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Jinja's own escaping is HTML's; `finalize` escapes for LaTeX
        finalize=lambda value: tables.escape_latex(_text(value)) if not isinstance(value, Undefined) else value,
    )
    environment.filters["table"] = tables.to_latex
    return environment


def html_environment(templates: Path | str) -> jinja2.Environment:
    """Templates of HTML: every string is escaped, undefined values fail."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
        finalize=_text,
    )


def _text(value: Any) -> Any:
    """Let text through (and what is undefined, which fails by itself), and refuse anything that nobody rounded."""
    if isinstance(value, str | Undefined):
        return value
    raise EatError(f"a template prints {value!r}, which is not text; round it with eat.rounding")


def _render(environment: jinja2.Environment, name: str, context: dict[str, Any]) -> str:
    try:
        return environment.get_template(name).render(context)
    except jinja2.UndefinedError as error:
        raise EatError(f"{name}: {error}; the template and eat/report.py do not fit together") from None
    except jinja2.TemplateNotFound as error:
        raise EatError(f"{error}: no such template; templates_folder must be the project's report/") from None


_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_DRAWN = {"svg", "g", "path", "use", "defs", "clipPath", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
_DRAWN |= {"text", "tspan", "title", "desc", "linearGradient", "stop", "image", "pattern"}


def inline_svg(path: Path | str, prefix: str) -> Markup:
    """An SVG file as an element for a page: ids carry `prefix`, so that figures do not share them; metadata is dropped.

    Only elements that draw are taken, without event handlers and without links out of the file. Raises `DamagedFile`
    where it is missing or not whole.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DamagedFile(f"{path}: no such file; run the rule that plots it") from None
    except ElementTree.ParseError as error:
        raise DamagedFile(f"{path}: not a whole SVG file ({error}); delete it and run again") from None
    _keep_drawing(root, prefix)
    width = _points(root.attrib.pop("width", ""), path)
    root.attrib.pop("height", None)
    # joins and caps are what matplotlib sets by a style sheet, which would reach beyond the figure
    size = f"min-width: {width:.0f}px; max-width: {1.8 * width:.0f}px"
    root.set("style", f"stroke-linejoin: round; stroke-linecap: butt; {size}")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _points(width: str, path: Path | str) -> float:
    """The width of a figure as matplotlib writes it, `237.6pt`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)pt", width)
    if not found:
        raise DamagedFile(f"{path}: width {width!r}, not a number of points; delete it and plot it again")
    return float(found[1])


def _keep_drawing(element: ElementTree.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        plain = name.rpartition("}")[2]
        if plain == "id":
            element.set(name, prefix + value)
        elif plain == "href" and value.startswith("#"):
            element.set(name, f"#{prefix}{value[1:]}")
        elif plain.startswith("on") or (plain == "href" and not value.startswith("data:image/png")):
            del element.attrib[name]
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
    for child in list(element):
        namespace, _, plain = child.tag.rpartition("}")
        if namespace != "{" + _SVG or plain not in _DRAWN:
            element.remove(child)
        else:
            _keep_drawing(child, prefix)


# --- reading ------------------------------------------------------------------------------------------------------


def _provenance(given: Mapping[str, Any]) -> Provenance:
    try:
        return Provenance.model_validate(dict(given))
    except ValidationError as error:
        faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].lower()}" for fault in error.errors()]
        known = listed(Provenance.model_fields)
        raise EatError(f"provenance: {'; '.join(faults)}; known keys: {known}") from None


def _read_tasks(study: str, tasks: Sequence[str], results: Path, data: Path) -> list[TaskFiles]:
    metrics = read_json(results / "metrics.json")
    if metrics.get("study") != study:
        raise EatError(f"{results}/metrics.json: of study {metrics.get('study')!r}, not {study!r}; give its own folder")
    summary = read_table(results / "summary.csv", (*_KEYS, *NEVER_EMPTY, *TIMED, *_MAY_BE_EMPTY))
    _refuse_gaps(summary, results / "summary.csv")
    exits = read_table(results / "curves" / "exits.csv", ("task", "system", "tau", "chosen", "exit", "fraction", "n"))
    found = []
    for task in tasks:
        timing = read_json(results / "timing" / f"{task}.json")
        missing = [key for key in _TIMING_KEYS if key not in timing]
        if missing:
            raise DamagedFile(f"{results}/timing/{task}.json: lacks {listed(missing)}; delete it and run again")
        rows = exits[exits["task"].astype(str) == task]
        found.append(
            TaskFiles(
                name=task,
                summary=rows_of(summary, task),
                paper_columns=read_table(results / f"summary_{task}.csv", ("model", "tau", "latency_ms", "accuracy")),
                exits=rows.assign(system=rows["system"].astype(str)),
                card=read_json(data / task / "card.json"),
                timing=timing,
            )
        )
    return found


_TIMING_KEYS = (
    "device",
    "precisions",
    "threads",
    "n_timed",
    "tokenization_ms_per_text",
    "load_average",
    "busy",
    "machine",
    "versions",
    "agreement",
)


def _refuse_gaps(summary: pd.DataFrame, path: Path) -> None:
    if summary[["task", "system"]].isna().any(axis=None):
        raise DamagedFile(f"{path}: a row without a task or a system; delete it and run again")
    trained = summary[~summary["system"].astype(str).str.startswith(STOCK_PREFIX)]
    timed = summary[summary["n_timed"] > 0]
    for rows, columns in ((trained, NEVER_EMPTY), (timed, TIMED)):
        for column in columns:
            if rows[column].isna().any():
                system = rows.loc[rows[column].isna(), "system"].iloc[0]
                raise DamagedFile(f"{path}: {column} of {system} is empty; delete it and run again")


def _captions(folder: Path) -> dict[str, str]:
    return {path.stem: " ".join(path.read_text(encoding="utf-8").split()) for path in sorted(folder.glob("*.rst"))}


def _caption(captions: dict[str, str], name: str) -> str:
    if name not in captions:
        raise EatError(f"no caption {name}.rst; captions found: {listed(captions)}")
    return captions[name]


def _published(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise DamagedFile(f"{path}: cannot be read ({str(error).splitlines()[0]}); restore it") from None
    if not isinstance(value, dict) or not isinstance(value.get("sources"), list):
        raise DamagedFile(f"{path}: holds no list `sources`; restore it")
    return value


# --- what is said -------------------------------------------------------------------------------------------------


def _task_report(task: TaskFiles, anchor: str, figures: dict[str, Figure], reference: str) -> TaskReport:
    rows = task.summary
    chosen = rows[is_true(rows["chosen"]) | rows["tau"].isna()]
    trained = chosen[~chosen["system"].str.startswith(STOCK_PREFIX)]
    noise = {int(batch): noise_floor(rows, task.name, int(batch)) for batch in sorted(rows["batch_size"].unique())}
    single: list[Record] = trained[trained["batch_size"] == 1].to_dict("records")
    made = {
        "results": tables.main_table(rows, task.name),
        "throughput": tables.throughput_table(rows, task.name),
        "frontier": tables.frontier_table(rows, task.name),
        "calibration": tables.calibration_table(rows, task.name),
        "paper": tables.paper_table(task.paper_columns, task.name),
    }
    return TaskReport(
        name=task.name,
        anchor=anchor,
        facts=_task_facts(task),
        overview=_overview(single, noise[1]),
        findings=tuple((str(row["system"]), _finding(row, trained, noise, reference)) for row in single),
        adaptive=tuple(_adaptive_sentences(rows, single, task.exits)),
        calibration=tuple(_calibration_sentence(row) for row in single if not pd.isna(row["ece_raw"])),
        measuring=(
            *_measuring_sentences(task),
            *(_noise_of_batch(batch, floor) for batch, floor in noise.items()),
        ),
        warning=_busy_warning(task),
        tables={kind: table for kind, table in made.items() if table is not None},
        figures=figures,
    )


def noise_floor(rows: pd.DataFrame, task: str, batch: int) -> NoiseFloor:
    """The A/A ratio of a task at one batch size, from the row `hf-dense-again`. Raises `EatError` without it."""
    again = rows[(rows["system"] == STOCK_AGAIN) & (rows["batch_size"] == batch)]
    if len(again) != 1:
        raise EatError(
            f"task {task!r}: {len(again)} rows of {STOCK_AGAIN} at batch size {batch}, not 1; time the A/A pair"
        )
    row = again.iloc[0]
    return NoiseFloor(float(row["speedup_vs_dense"]), float(row["speedup_low"]), float(row["speedup_high"]))


def _overview(single: list[Record], noise: NoiseFloor) -> str:
    """How many systems are faster, slower, or not told apart, at batch 1."""
    timed = [row for row in single if not pd.isna(row["speedup_low"])]
    if not timed:
        return "No system was timed."
    counts = Counter(verdicts.speed_verdict(row["speedup_low"], row["speedup_high"], noise) for row in timed)
    parts = [f"{rounding.count(counts[verdict])} {verdict}" for verdict in ("faster", "slower") if counts[verdict]]
    if counts["no difference shown"]:
        parts.append(f"{rounding.count(counts['no difference shown'])} with no difference shown")
    return (
        f"Of {rounding.count(len(timed))} systems at their chosen thresholds, batch size 1, against the stock dense "
        f"model: {', '.join(parts)}."
    )


def _finding(row: Record, trained: pd.DataFrame, noise: dict[int, NoiseFloor], reference: str) -> str:
    """What is shown about one system: time and accuracy at batch 1, time at the other batch sizes."""
    sentences = [verdicts.speed_sentence(row, noise[1]), verdicts.accuracy_sentence(row, reference)]
    if not pd.isna(row["tau"]) and not is_true(pd.Series([row["within_budget"]])).all():
        sentences.append(
            "None of its thresholds stayed within the accuracy budget on the calibration split, so that its most "
            "accurate one there was chosen."
        )
    if not pd.isna(row["speedup_vs_packed_dense"]) and row["system"] != reference:
        ratio = rounding.x_times(row["speedup_vs_packed_dense"])
        sentences.append(f"Against {reference} in the same packed engine the median paired ratio is {ratio}.")
    if not pd.isna(row["speedup_vs_deep"]):
        ratio = rounding.x_times(row["speedup_vs_deep"])
        sentences.append(f"Against the deeper stock model with random weights (latency only) the ratio is {ratio}.")
    others = trained[(trained["system"] == row["system"]) & (trained["batch_size"] > 1)].sort_values("batch_size")
    for other in others.to_dict("records"):
        sentences.append(verdicts.speed_sentence(other, noise[int(other["batch_size"])]))
    return " ".join(sentences)


def _adaptive_sentences(rows: pd.DataFrame, single: list[Record], exits: pd.DataFrame) -> list[str]:
    sentences = []
    for row in single:
        system = str(row["system"])
        own = exits[(exits["system"] == system) & is_true(exits["chosen"])]
        last = exits.loc[exits["system"] == system, "exit"].max()
        early = float(own.loc[own["exit"] < last, "fraction"].sum())
        if pd.isna(row["tau"]) and row["retention_full_depth"] >= 1 and early == 0:
            continue
        at: str = "" if pd.isna(row["tau"]) else f" at its chosen threshold of {rounding.threshold(row['tau'])}"
        sentences.append(
            f"{system}{at} executes {rounding.depth(row['avg_depth'])} layers on average, and "
            f"{rounding.with_percent(early)} of the texts leave before its last layer. When the prediction is made, "
            f"{rounding.retention(row['avg_retention'])} of a text's tokens are alive; run to full depth, it would be "
            f"{rounding.retention(row['retention_full_depth'])}."
        )
    return sentences or ["No system of this study removes tokens or leaves early."]


def _calibration_sentence(row: Record) -> str:
    sentence = (
        f"The expected calibration error of {row['system']} is {rounding.calibration_error(row['ece_raw'])} % with raw "
        f"and {rounding.calibration_error(row['ece_calibrated'])} % with calibrated probabilities"
    )
    if pd.isna(row["ece_debiased"]) or pd.isna(row["ece_debiased_low"]) or pd.isna(row["ece_debiased_high"]):
        return sentence + "."
    within = rounding.interval(row["ece_debiased_low"], row["ece_debiased_high"], rounding.calibration_error)
    return f"{sentence}; debiased {rounding.calibration_error(row['ece_debiased'])} %, 95 % interval {within}."


def _measuring_sentences(task: TaskFiles) -> list[str]:
    timing = task.timing
    agreement = timing["agreement"]
    compared, different, allowed = (
        sum(int(entry[key]) for entry in agreement) for key in ("compared", "different", "allowed")
    )
    before, after = timing["load_average"]
    sentences = [
        f"{rounding.count(timing['n_timed'])} texts were timed on {timing['device']} in {_precisions(timing)} with "
        f"{rounding.count(timing['threads'])} threads; all systems ran in turn, in one process, over the same texts.",
        f"Tokenisation is timed apart: {rounding.milliseconds(timing['tokenization_ms_per_text'])} ms a text.",
        f"The load average was {rounding.load(before)} before and {rounding.load(after)} after.",
    ]
    if different:
        sentences.append(
            f"Of {rounding.count(compared)} timed answers (class, depth and tokens), {rounding.count(different)} "
            f"differ from the trace, each at a threshold or a tie; up to {rounding.count(allowed)} may."
        )
    else:
        sentences.append(
            f"All of {rounding.count(compared)} timed answers (class, depth and tokens) agree with the trace."
        )
    return sentences


def _noise_of_batch(batch: int, floor: NoiseFloor) -> str:
    return f"Batch size {rounding.count(batch)}. {verdicts.noise_sentence(floor)}"


def _busy_warning(task: TaskFiles) -> str:
    if not task.timing["busy"]:
        return ""
    return (
        f"The machine was busy with other work while {task.name} was timed. Times and speed-ups of this task may be "
        "off by more than their intervals say; time it again on a quiet machine before quoting them."
    )


def _task_facts(task: TaskFiles) -> tuple[tuple[str, str], ...]:
    card, timing = task.card, task.timing
    splits = ", ".join(f"{rounding.count(number)} {name}" for name, number in card["splits"].items())
    source = ", ".join(f"{key} {value[:16] if key == 'sha256' else value}" for key, value in card["source"].items())
    facts = [
        ("Source", source),
        ("Kind", "pairs of texts" if card["pair"] else "single texts"),
        ("Labels", listed(card["labels"])),
        ("Rows", ", ".join(f"{rounding.count(number)} {name}" for name, number in card["rows"].items())),
        ("Splits", splits),
        ("Texts timed", rounding.count(timing["n_timed"])),
    ]
    return tuple(facts)


def _run_facts(origin: Provenance, found: list[TaskFiles]) -> list[tuple[str, str]]:
    """Machine and versions, which all tasks must share to stand in one report."""
    timing = found[0].timing
    for task in found[1:]:
        for key in ("device", "threads", "machine", "versions"):
            if task.timing[key] != timing[key]:
                raise EatError(
                    f"{found[0].name} and {task.name} were timed with another {key}; time both in one setting, or "
                    "report each by itself"
                )
    machine = timing["machine"]
    facts = [
        ("Tasks", listed(task.name for task in found)),
        ("Dense reference", origin.reference),
        ("Seeds", listed(origin.seeds)),
        ("Processor", machine["cpu"]),
        ("Cores", rounding.count(machine["cores"])),
        ("Memory", f"{rounding.gibibytes(machine['memory_gib'])} GiB"),
        ("Graphics processor", machine.get("gpu") or ""),
        ("Platform", machine["platform"]),
        ("Setting", f"{timing['device']}, {_precisions(timing)}, {rounding.count(timing['threads'])} threads"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in timing["versions"].items())),
    ]
    return [(name, value) for name, value in facts if value]


def _precisions(timing: dict[str, Any]) -> str:
    return listed(dict.fromkeys(timing["precisions"].values()))


def _provenance_facts(origin: Provenance) -> list[tuple[str, str]]:
    commit = f"{origin.commit} (with changes that are not committed)" if origin.modified else origin.commit
    facts = [
        ("Commit", commit),
        ("Date", origin.date),
        ("Command", origin.command),
        ("Rendered with", ", ".join(f"{name} {version}" for name, version in origin.versions.items())),
        ("Environment", origin.environment),
    ]
    return [(name, value) for name, value in facts if value]


def _files(results: Path, data: Path, tasks: list[str]) -> list[tuple[str, str]]:
    """The files that the numbers come from, each with the start of its sha256."""
    paths = [
        (results, "summary.csv"),
        (results, "metrics.json"),
        *((results, f"curves/{name}.csv") for name in ("exits", "retention", "lengths", "reliability")),
        *((results, f"timing/{task}.json") for task in tasks),
        *((results, f"summary_{task}.csv") for task in tasks),
        *((data, f"{task}/card.json") for task in tasks),
    ]
    missing = [str(folder / name) for folder, name in paths if not (folder / name).is_file()]
    if missing:
        raise DamagedFile(f"{missing[0]}: no such file; run the rule that makes it")
    return [(name, sha256_of(folder / name)[:16]) for folder, name in paths]


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
