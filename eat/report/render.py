"""From the files of a study to its report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from eat import rounding
from eat.errors import DamagedFile, EatError, listed
from eat.files import replacing, sha256_of, write_text
from eat.report import published_tables, summary_tables
from eat.report import sentences_on_tasks as sentences
from eat.report.claims import Paper, read_paper
from eat.report.environments import html_environment, latex_environment, render, style_and_script
from eat.report.evidence import Evidence
from eat.report.figures import Figure, Placed, by_place, read_caption, read_figure
from eat.report.first_screen import first_screen, lead
from eat.report.gpu_run import gpu_evidence
from eat.report.importance import correlation_table, importance_sentences, norm_verdicts, retention_table
from eat.report.latex import task_tables
from eat.report.lengths import compared_rows, findings_table, lengths_table
from eat.report.promises import promises_table
from eat.report.published import Published, read_published
from eat.report.quantities import Quantity, table_of
from eat.report.results import Provenance, TaskFiles, noise_floor, read_provenance, read_tasks
from eat.report.scorecard import Judged, counts_sentence, judge, scorecard_table
from eat.report.system_tables import behaviour_table, system_tables, verdict_table
from eat.report.table import Table
from eat.report.theory import theory_sentences, theory_table
from eat.report.triage import triage_table
from eat.results.rows import is_true
from eat.study.paths import CLAIMS, CURVES
from eat.study.stock import STOCK_PREFIX


def render_report(
    study_name: str,
    tasks: Mapping[str, str],
    results_folder: Path | str,
    data_folder: Path | str,
    templates_folder: Path | str,
    provenance: Mapping[str, Any],
    out_folder: Path | str,
    figures: Sequence[Placed],
    gpu: Path | str | None = None,
) -> list[Path]:
    """Render `results.tex`, `results_section.tex` and `report.html` of a study into `out_folder`; returns the files.

    tasks: name in the files -> name in the report. results_folder: results/{study}. data_folder:
    data/{study}. templates_folder: the templates, captions/, claims/ and published.yaml. provenance: see
    `Provenance`. figures: those of the study, see `placement`. gpu: the table of a run on a GPU, if there is one. The
    LaTeX names figures relative to `out_folder`, which is results/{study}/report. A figure whose name cannot be part of
    a TeX path is copied next to it.

    Raises `EatError` if a file is missing, damaged or of another study, or if a template uses an undefined
    value. Nothing is written unless everything could be rendered.
    """
    results, data, templates, out = (
        Path(folder) for folder in (results_folder, data_folder, templates_folder, out_folder)
    )
    origin = read_provenance(provenance)
    found = read_tasks(study_name, tasks, results, data, origin.ablation, origin.importance, origin.triage)
    counted = {int(number) for task in found for number in task.summary["seeds"]}
    if counted != {len(origin.seeds)}:
        raise EatError(
            f"provenance.seeds names {len(origin.seeds)} seeds ({listed(origin.seeds)}), {results}/summary.csv holds "
            f"{listed(sorted(counted))}; summarise the study again"
        )
    published = read_published(templates / "published.yaml").also_called(tasks)
    evidence = [_evidence(task, published, origin.reference) for task in found]
    papers = [paper for paper in (read_paper(templates / file) for file in CLAIMS) if paper.concerns(evidence)]
    on_gpu = None if gpu is None else gpu_evidence(gpu, published)
    captions = {kind.name: read_caption(templates / "captions", kind.name) for kind in figures}
    of_task, of_study = ([kind for kind in figures if kind.of == of] for of in ("task", "study"))
    copies: dict[Path, Path] = {}
    reports = []
    for number, task in enumerate(found, start=1):
        drawn = {}
        for kind in of_task:
            files = results / "figures" / f"{kind.name}_{task.key}"
            beside = out / f"{kind.name}-{number}.pdf"
            drawn[kind.name], copy = read_figure(files, beside, captions[kind.name], sentences.sample(task))
            copies |= copy
        placed = by_place(of_task, drawn)
        reports.append(_task_report(task, f"task-{number}", placed, origin.reference, published))
    study_figures = [
        read_figure(results / "figures" / kind.name, out / f"{kind.name}.pdf", captions[kind.name])[0]
        for kind in of_study
    ]
    summary = pd.concat([task.summary for task in found])
    context = {
        "study": study_name,
        "date": origin.date,
        "tasks": reports,
        "lead": lead([report["first"] for report in reports]),
        "parts": sorted({kind for report in reports for kind in report["tables"]}),
        "run_facts": _run_facts(origin, found),
        "study_figures": study_figures,
        "scorecards": [_scorecard(paper, judge(paper, evidence, published, on_gpu)) for paper in papers],
        "published": published_tables.published_table(published, summary, list(tasks.values())),
        "published_notes": _published_notes(published, found, origin.reference),
        "provenance": _provenance_facts(origin),
        "durations": _durations_table(origin),
        "files": _files(results, data, list(tasks), origin),
        **style_and_script(templates),
    }
    texts = {
        "results_section.tex": render(latex_environment(templates), "results_section.tex.jinja", context),
        "results.tex": render(latex_environment(templates), "results.tex.jinja", context),
        "report.html": render(html_environment(templates), "report.html.jinja", context),
    }
    for target, source in copies.items():
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    for name, text in texts.items():
        write_text(out / name, text)
    return [*(out / name for name in texts), *copies]


def _published_notes(published: Published, found: Sequence[TaskFiles], reference: str) -> list[str]:
    """The note on each published source that the report shows."""
    others = [
        source
        for task in found
        for source in published.others_on(task.name, list(task.summary["system"].unique()), reference)
    ]
    sources = {source.title: source for source in (*published.sources, *others)}
    return [
        f"{source.title[:1].upper()}{source.title[1:]} ({source.citation}): {source.note}"
        for source in sources.values()
    ]


def _evidence(task: TaskFiles, published: Published, reference: str) -> Evidence:
    rows = task.summary[task.summary["batch_size"] == 1]
    models = published.models(list(rows["system"].unique()), reference)
    systems = {model: system for system, model in models.items()}
    return Evidence(
        task.name,
        rows,
        task.exits,
        task.lengths,
        noise_floor(rows, task.name, 1),
        systems,
        norm_verdicts(task, reference),
        compared_rows(task, reference),
        task.importance,
    )


def _scorecard(paper: Paper, judged: Sequence[Judged]) -> dict[str, Any]:
    """What the templates print about the claims of a paper."""
    return {
        "name": paper.name,
        "citation": paper.citation,
        "counts": counts_sentence(judged),
        "table": scorecard_table(paper, judged),
    }


def _task_report(
    task: TaskFiles, anchor: str, figures: dict[str, tuple[Figure, ...]], reference: str, published: Published
) -> dict[str, Any]:
    """Everything the templates print about one task, as text and tables.

    tables: by the part of the report that contains them; a part without tables in all tasks is left out. figures: by
    their place, see `PLACES`.
    """
    rows = task.summary
    chosen = rows[is_true(rows["chosen"]) | rows["tau"].isna()]
    trained = chosen[~chosen["system"].str.startswith(STOCK_PREFIX)]
    noise = {int(batch): noise_floor(rows, task.name, int(batch)) for batch in sorted(rows["batch_size"].unique())}
    single = trained[trained["batch_size"] == 1].to_dict("records")
    f1 = summary_tables.judged_by_f1(task.card)
    systems = system_tables(trained, task.name, anchor)
    made = task_tables(rows, task.paper_columns, task.name, reference, published, f1) | {
        "verdicts": verdict_table(trained, task.name, noise, reference),
        "behaviour": behaviour_table(single, task.exits, task.name),
        "findings": findings_table(task, reference, noise[1]),
        "lengths": lengths_table(task, reference),
        "promises": promises_table(task),
        "triage": triage_table(task),
        "importance": correlation_table(task),
        "retention": retention_table(task, reference),
        "others": published_tables.other_papers_table(published, rows, task.name, reference),
        "theory": theory_table(task),
        "ablation": None if task.ablation is None else summary_tables.ablation_table(task.ablation, task.name),
    }
    return {
        "name": task.name,
        "anchor": anchor,
        "facts": sentences.task_facts(task),
        "first": first_screen(task, reference),
        "systems": systems,
        "links": {one.name: one.anchor for one in systems},
        "importance": importance_sentences(task, reference),
        "theory": theory_sentences(task, reference),
        "ablation": [] if task.ablation is None else sentences.ablation_sentences(task.ablation),
        "measuring": sentences.measuring_facts(task, noise),
        "warning": sentences.warning(task),
        "tables": {kind: table for kind, table in made.items() if table is not None},
        "figures": figures,
    }


# --- provenance ---------------------------------------------------------------------------------------------------


def _run_facts(origin: Provenance, found: list[TaskFiles]) -> list[tuple[str, str]]:
    """Machine and versions, which must be the same for all tasks of a report."""
    timing = found[0].timing
    for task in found[1:]:
        for key in ("device", "threads", "machine", "versions"):
            if task.timing[key] != timing[key]:
                raise EatError(
                    f"{found[0].name} and {task.name} were timed with different values of {key}; time both in the same "
                    "setting, or report each separately"
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
        (
            "Setting",
            f"{timing['device']}, {sentences.precisions(timing)}, {rounding.count(timing['threads'])} threads",
        ),
        ("Trained in", ", ".join(_trained_in(found))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in timing["versions"].items())),
    ]
    return [(name, value) for name, value in facts if value]


def _trained_in(found: list[TaskFiles]) -> list[str]:
    """The precisions and devices in which the models were trained; with the systems of each, if they differ."""
    systems: dict[str, dict[str, None]] = {}
    for task in found:
        for system, settings in task.timing.get("trained", {}).items():
            for setting in settings:
                systems.setdefault(setting, {})[system] = None
    return [setting if len(systems) == 1 else f"{setting} ({listed(systems[setting])})" for setting in systems]


def _provenance_facts(origin: Provenance) -> list[tuple[str, str]]:
    facts = [
        ("Commit", origin.commit),
        ("Files that differ from the commit", _some(origin.differing)),
        ("DVC lock", f"{origin.lock}, as it was before this run was recorded" if origin.lock else "none"),
        ("Date", origin.date),
        ("Seeds", listed(origin.seeds)),
        ("Command", origin.command),
        ("PDF made by", origin.pdf_command),
        ("Rendered with", ", ".join(f"{name} {version}" for name, version in origin.versions.items())),
        ("Environment", origin.environment),
    ]
    return [(name, value) for name, value in facts if value]


def _some(names: list[str]) -> str:
    """The number of names and the first five of them; empty if there are none."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)}: {listed(names[:5])}{more}" if names else ""


def _durations_table(origin: Provenance) -> Table:
    """The duration of each rule; without rows if it was not recorded."""
    quantities = (
        Quantity("Rule", "rule"),
        Quantity("Jobs", "jobs", rounding.count),
        Quantity("All", "seconds", rounding.seconds, unit="s"),
        Quantity("Longest", "longest", rounding.seconds, unit="s"),
    )
    caption = "Duration of each rule in Snakemake's records: its jobs, their total seconds, and the longest job."
    return table_of(caption, "durations", quantities, [("", [one.model_dump() for one in origin.durations])])


def _files(results: Path, data: Path, tasks: list[str], origin: Provenance) -> list[tuple[str, str]]:
    """The files that contain the numbers, each with the start of its sha256."""
    paths = [
        (results, "summary.csv"),
        (results, "metrics.json"),
        (results, "buckets.csv"),
        (results, "promises.csv"),
        *((results, f"curves/{name}.csv") for name in CURVES),
        *((results, f"timing/{task}.json") for task in tasks),
        *((results, f"summary_{task}.csv") for task in tasks),
        *((results, f"importance/{task}.csv") for task in tasks if origin.importance),
        *((results, name) for name in ("triage.csv",) if origin.triage),
        *((data, f"{task}/card.json") for task in tasks),
    ]
    missing = [str(folder / name) for folder, name in paths if not (folder / name).is_file()]
    if missing:
        raise DamagedFile(f"{missing[0]}: no such file; run the rule that makes it")
    return [(name, sha256_of(folder / name)[:16]) for folder, name in paths]
