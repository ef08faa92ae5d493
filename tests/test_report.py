"""The report: names come out as text, undefined values fail, sentences follow the numbers, the PDF compiles."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
import pandas as pd
import pytest
from synthetic_results import (
    DENSE,
    EAT,
    PATIENCE,
    PLACEMENT,
    STUDENT,
    STUDY_FIGURES,
    TASK_FIGURES,
    Made,
    placed,
    plot,
    plot_systems,
    write_study,
)
from test_scorecard import gpu_file

from eat import rounding
from eat.errors import DamagedFile, EatError
from eat.report import typeset, verdicts
from eat.report.environments import html_environment, latex_environment
from eat.report.inline import inline_svg
from eat.report.render import render_report
from eat.report.results import TaskFiles
from eat.report.theory import reach_of
from eat.results.columns import ABLATION_COLUMNS
from eat.results.noise import NoiseFloor, speed_verdict

TEMPLATES = Path(__file__).parents[1] / "report"
ODD_TASK = r"50%_<b>x</b>\input{a}"
ODD_KEY = "50%_<b> &x"
"""The first is what the report calls the task; a path takes no slash, but all of the second."""
ODD_SYSTEM = "eat {{ 7 * 7 }} << 7 >> $&#^~]"
PROVENANCE: dict[str, Any] = {
    "commit": "0123abc",
    "date": "2024-05-01",
    "command": "snakemake --cores all",
    "reference": "dense-6",
    "seeds": [1],
    "versions": {"matplotlib": "3.9"},
}
ONE_TASK = {"rotten_tomatoes": "rotten_tomatoes"}
SMALL = Made(systems=(DENSE, STUDENT, EAT))


def rendered(
    root: Path,
    made: Made = SMALL,
    tasks: Sequence[str] | Mapping[str, str] = ("rotten_tomatoes",),
    provenance: Mapping[str, Any] = PROVENANCE,
    templates: Path = TEMPLATES,
    plotted: bool = False,
) -> dict[str, str]:
    """Write a made-up study under `root`, with its figures or with empty ones, and render it; file name -> text.

    tasks: their names, or name -> what the report calls it.
    """
    titles = dict(tasks) if isinstance(tasks, Mapping) else {task: task for task in tasks}
    names = tuple(titles)
    results, data = write_study(root, names, made)
    if plotted:
        plot_all(results, names, made)
    else:
        empty_figures(results, names)
    written = render_report("synthetic", titles, results, data, templates, provenance, results / "report", PLACEMENT)
    return {path.name: path.read_text(encoding="utf-8") for path in written if path.suffix != ".pdf"}


def plot_all(results: Path, tasks: tuple[str, ...], made: Made) -> None:
    plot_systems(made, results / "figures" / "overview.pdf", results / "figures" / "overview.svg")
    for task in tasks:
        for kind in TASK_FIGURES:
            stem = results / "figures" / f"{kind}_{task}"
            plot(kind, results, task, made.reference, f"{stem}.pdf", f"{stem}.svg")


def empty_figures(results: Path, tasks: tuple[str, ...]) -> None:
    """Files in the place of figures, for tests that do not look at them: drawing takes most of the time."""
    (results / "figures").mkdir()
    for name in (*STUDY_FIGURES, *(f"{kind}_{task}" for task in tasks for kind in TASK_FIGURES)):
        stem = results / "figures" / name
        Path(f"{stem}.pdf").write_bytes(b"%PDF-1.4")
        empty = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="72pt" viewBox="0 0 72 72"/>'
        Path(f"{stem}.svg").write_text(empty, encoding="utf-8")


class Page(HTMLParser):
    """The text of a page, its elements, the ids it holds and the places it links to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.links += [str(values[name]) for name in ("href", "src", "xlink:href") if values.get(name)]

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return rendered(tmp_path_factory.mktemp("plain"), plotted=True)


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd")
    made = Made(systems=(DENSE, STUDENT, replace(EAT, name=ODD_SYSTEM)))
    rendered(root, made, {ODD_KEY: ODD_TASK, "rotten_tomatoes": "rotten_tomatoes"}, plotted=True)
    return root / "results" / "synthetic" / "report"


def test_html_stands_alone(plain: dict[str, str]) -> None:
    page = Page(plain["report.html"])
    assert page.tags.count("script") == 1 and "link" not in page.tags
    script = plain["report.html"].split("<script>")[1].split("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in plain["report.html"]
    assert all(link.startswith(("#", "data:image/png")) for link in page.links)
    assert page.tags.count("svg") == len(TASK_FIGURES) + len(STUDY_FIGURES)
    assert "prefers-color-scheme: dark" in plain["report.html"]


def test_every_link_of_the_page_leads_to_one_place(plain: dict[str, str]) -> None:
    page = Page(plain["report.html"])
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    headings = (
        "Results of all systems|Frontier: every operating point|The papers' claims|Systems, one by one|"
        "Adaptive behaviour|Calibration|Theory|Published figures|How it was measured|What was run, and provenance"
    )
    places = [page.text.index(heading) for heading in headings.split("|")]
    assert places == sorted(places)
    # open without a script and in print; the script closes them
    assert page.tags.count("details") == len(re.findall(r"<details[^>]* open>", plain["report.html"]))


@pytest.mark.slow
def test_odd_names_are_text_in_html(odd_folder: Path) -> None:
    page = Page((odd_folder / "report.html").read_text(encoding="utf-8"))
    assert "b" not in page.tags
    assert ODD_TASK in page.text
    assert ODD_SYSTEM in page.text


def test_odd_names_are_text_in_latex(odd_folder: Path) -> None:
    section = (odd_folder / "results_section.tex").read_text(encoding="utf-8")
    assert r"\input{a}" not in section
    assert (
        r"50\%\_\allowbreak{}\textless{}b\textgreater{}x\textless{}/b\textgreater{}\textbackslash{}input\{a\}"
        in section
    )
    assert r"eat \{\{ 7 * 7 \}\} \textless{}\textless{} 7 \textgreater{}\textgreater{} \$\&\#" in section
    for name in re.findall(r"\\eatgraphic\{(.*?)\}\n", section):
        path = name.replace(r"\eatfigures", "../figures").replace(r"\eatreport", ".")
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", path)
        assert (odd_folder / path).is_file()


def test_every_input_of_the_latex_is_in_its_folder(plain: dict[str, str]) -> None:
    assert re.findall(r"\\input\{(.*?)\}", plain["results.tex"]) == ["results_section"]
    assert not re.findall(r"^[^%\n]*\\input", plain["results_section.tex"], flags=re.MULTILINE)


@pytest.mark.slow
def test_a_second_rendering_is_the_same(plain: dict[str, str], tmp_path: Path) -> None:
    assert rendered(tmp_path, plotted=True) == plain


@pytest.mark.parametrize("make", [html_environment, latex_environment])
def test_undefined_values_and_bare_numbers_fail(make: Any) -> None:
    environment: jinja2.Environment = make(TEMPLATES)
    start, end = environment.variable_start_string, environment.variable_end_string
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string(f"{start} missing {end}").render()
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string(f"{start} card.missing {end}").render(card={})
    for value in (0.1234, 5, None):
        with pytest.raises(EatError, match="round it with"):
            environment.from_string(f"{start} value {end}").render(value=value)


def test_a_template_that_asks_for_what_is_not_there_writes_nothing(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    with (templates / "report.html.jinja").open("a", encoding="utf-8") as file:
        file.write("{{ nowhere }}")
    with pytest.raises(EatError, match=r"report\.html\.jinja: 'nowhere' is undefined"):
        rendered(tmp_path, templates=templates)
    assert not (tmp_path / "results" / "synthetic" / "report").exists()


QUIET = NoiseFloor(1.0, 0.98, 1.02, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "noise", "expected"),
    [
        (1.9, 2.1, QUIET, "faster"),
        (0.5, 0.6, QUIET, "slower"),
        (0.9, 1.2, QUIET, "no difference shown"),
        (1.01, 1.05, QUIET, "no difference shown"),  # above 1, but the clock alone gives 1.02
        (1.03, 1.05, QUIET, "faster"),
        # A/A has no direction: 1 / 0.90 = 1.11
        (1.03, 1.05, NoiseFloor(0.93, 0.90, 0.96, 0.93), "no difference shown"),
    ],
)
def test_speed_verdict(low: float, high: float, noise: NoiseFloor, expected: str) -> None:
    assert speed_verdict(low, high, noise) == expected


@pytest.mark.parametrize(
    ("delta", "low", "high", "seeds", "n", "expected"),
    [
        (-0.02, -0.03, -0.01, 3, 5000, "lower"),
        (0.02, 0.01, 0.03, 3, 5000, "higher"),
        (0.001, -0.008, 0.01, 1, 5000, "no loss shown"),
        (0.001, -0.008, 0.01, 3, 2499, "no loss shown"),
        (0.001, -0.008, 0.01, 3, 2500, "no loss"),
        (0.001, -0.012, 0.014, 3, 5000, "undecided"),
        (-0.001, -0.008, 0.006, 3, 5000, "undecided"),
    ],
)
def test_accuracy_verdict(delta: float, low: float, high: float, seeds: int, n: int, expected: str) -> None:
    assert verdicts.accuracy_verdict(delta, low, high, seeds, n) == expected


@pytest.mark.parametrize(
    ("ratio", "delta", "expected"),
    [
        (2.5, 0.004, ["faster", "no loss shown"]),
        (0.6, -0.03, ["slower", "lower"]),
        (1.01, -0.005, ["no difference shown", "not decided"]),
    ],
)
def test_verdicts_follow_the_numbers(tmp_path: Path, ratio: float, delta: float, expected: list[str]) -> None:
    row = replace(EAT, name="tested", speedup=ratio, delta=delta, taus=(0.9,), chosen=0)
    texts = rendered(tmp_path, Made(systems=(replace(DENSE, speedup=1.0), row)))
    table = texts["report.html"].split('id="table-verdicts%3Arotten_tomatoes"')[1].split("</table>")[0]
    cells = [text for text in Page(table).text.split("tested", maxsplit=1)[1].splitlines() if text]
    assert all(word in cells[0] for word in expected)
    assert all(word in texts["results_section.tex"] for word in expected)


def test_all_that_was_measured_of_a_system_stands_in_its_table(plain: dict[str, str], tmp_path: Path) -> None:
    results, _ = write_study(tmp_path, made=SMALL)
    summary = pd.read_csv(results / "summary.csv")
    own = summary[(summary.system == "eat-6") & summary.chosen].sort_values("batch_size")
    table = plain["report.html"].split('id="table-system%3Arotten_tomatoes%3Aeat-6"')[1].split("</table>")[0]
    text = Page(table).text
    for row in own.itertuples():
        assert f"{row.speedup_vs_dense:.2f} [{row.speedup_low:.2f}, {row.speedup_high:.2f}]" in text
        assert f"{row.speedup_vs_deep:.2f}" in text
    assert f"{own.iloc[0].latency_ms_p99:.2f}" in text


def test_a_study_of_dense_systems_and_batch_1_is_rendered(tmp_path: Path) -> None:
    texts = rendered(tmp_path, Made(systems=(DENSE, STUDENT), batch_sizes=(1,)))
    assert "No system of this study removes tokens or exits early." in texts["report.html"]
    assert "Throughput" not in texts["report.html"]


def test_without_an_a_a_run_nothing_is_claimed(tmp_path: Path) -> None:
    results, data = write_study(tmp_path, made=SMALL)
    empty_figures(results, ("rotten_tomatoes",))
    summary = pd.read_csv(results / "summary.csv")
    summary[summary.system != "hf-dense-again"].to_csv(results / "summary.csv", index=False)
    with pytest.raises(EatError, match="0 rows of hf-dense-again at batch size 1"):
        render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, tmp_path / "out", PLACEMENT)


def test_what_is_doubtful_about_the_text_is_told(tmp_path: Path) -> None:
    doubt = "own_{1}.csv: labels in 'y' that differ only in case: 'Neg' (3 rows) & 'neg' (90 rows)"
    texts = rendered(tmp_path, replace(SMALL, busy=True, warnings=(doubt,)))
    page = html.unescape(texts["report.html"])
    assert "machine was busy" in page
    assert f"Warning about the text: {doubt}." in page
    assert r"(3 rows) \& 'neg' (90 rows)" in texts["results_section.tex"]


def test_what_was_left_out_and_in_what_models_were_trained_is_told(plain: dict[str, str], tmp_path: Path) -> None:
    reason = "precision int8 computes wrong sums (18 % off) on this processor (A CPU); take float32"
    texts = rendered(tmp_path, replace(SMALL, left_out={"hf-dense-int8": reason}))
    assert "was not timed" not in plain["report.html"]
    assert f"hf-dense-int8 was not timed: {reason}." in texts["report.html"].replace("\xa0", " ")
    assert (
        "hf-dense-int8 was not timed: precision int8 computes wrong sums (18~\\% off)" in texts["results_section.tex"]
    )
    assert re.search(r"Trained in\s*<[^>]+>\s*<[^>]+>\s*bfloat16 on cpu\s*<", texts["report.html"])


def test_results_that_record_neither_are_reported_all_the_same(tmp_path: Path) -> None:
    rendered(tmp_path)
    (state,) = tmp_path.rglob("timing/rotten_tomatoes.json")
    facts = json.loads(state.read_text(encoding="utf-8"))
    del facts["left_out"], facts["trained"]
    state.write_text(json.dumps(facts), encoding="utf-8")
    results = state.parents[1]
    (data,) = (path.parents[1] for path in tmp_path.rglob("card.json"))
    page = render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, results / "report", PLACEMENT)
    assert not any("Trained in" in path.read_text(encoding="utf-8") for path in page if path.suffix == ".html")


def test_a_busy_machine_is_told(plain: dict[str, str], tmp_path: Path) -> None:
    assert "machine was busy" not in plain["report.html"]
    texts = rendered(tmp_path, replace(SMALL, busy=True))
    assert "machine was busy" in texts["report.html"] and "machine was busy" in texts["results_section.tex"]


def test_an_ablation_is_shown_where_a_study_has_one(plain: dict[str, str], tmp_path: Path) -> None:
    assert "Ablation" not in plain["report.html"]
    results, data = write_study(tmp_path, made=SMALL)
    empty_figures(results, ("rotten_tomatoes",))
    write_ablation(results, "rotten_tomatoes")
    figures = placed([*STUDY_FIGURES, *TASK_FIGURES, "ablation"])
    provenance = PROVENANCE | {"ablation": True}
    render_report("synthetic", ONE_TASK, results, data, TEMPLATES, provenance, tmp_path / "out", figures)
    text = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "Ablation on rotten_tomatoes: parts of the trained system are switched off, nothing is retrained." in text
    assert "eat-6-no-exit" in text
    assert "The accuracy interval of every variant overlaps that of eat-6." in text  # the variant is a copy
    assert r"\section{Ablation}" in (tmp_path / "out" / "results_section.tex").read_text(encoding="utf-8")


def write_ablation(results: Path, task: str) -> None:
    """A table of `eat-6` and a variant of it, with an empty figure beside it."""
    summary = pd.read_csv(results / "summary.csv")
    chosen = summary[summary.chosen & (summary.batch_size == 1) & summary.system.isin(["dense-6", "eat-6"])]
    rows = pd.concat([chosen, chosen[chosen.system == "eat-6"].assign(system="eat-6-no-exit")])
    role = {"dense-6": "reference", "eat-6": "full", "eat-6-no-exit": "variant"}
    table = rows.assign(
        ablation="switched_off", role=rows.system.map(role), compute=1 / rows.flops_ratio, reducer="norm",
        attention="window", exits="confidence",
    )  # fmt: skip
    table[list(ABLATION_COLUMNS)].to_csv(results / f"summary_ablation_{task}.csv", index=False)
    for ending in ("pdf", "svg"):
        made = results / "figures" / f"latency_{task}.{ending}"
        shutil.copyfile(made, made.with_name(f"ablation_{task}.{ending}"))


def test_agreement_with_the_trace_is_told(plain: dict[str, str]) -> None:
    # three systems, two batch sizes, 200 texts each; the made-up file lets one of them differ, and one a job may
    expected = (
        "Of 1,200 timed answers (class, depth and tokens), 1 differs from the trace, each at a threshold or a tie"
    )
    assert f"{expected}; up to 6 are allowed." in Page(plain["report.html"]).text


def test_published_figures_are_named_as_such(plain: dict[str, str]) -> None:
    text = Page(plain["report.html"]).text
    assert "As published: tables 1 to 3 of the paper (NVIDIA GeForce RTX 2080 Ti)" in text
    assert "0.62×" in text and "This run" in text  # noqa: RUF001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comit": "x"}, "comit.*known keys: commit"),
        ({"seeds": "many"}, "seeds"),
        ({"commit": None}, "commit"),
        ({"seeds": [1, 2]}, "names 2 seeds .1, 2., .*summary.csv holds 1"),
    ],
)
def test_provenance_is_checked(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(EatError, match=message):
        rendered(tmp_path, provenance=PROVENANCE | change)


def test_optional_provenance_is_printed_where_given(tmp_path: Path) -> None:
    files = [f"config/{number}.yaml" for number in range(7)]
    given = {"differing": files, "pdf_command": "snakemake --cores all -- render_pdf"}
    text = Page(rendered(tmp_path, provenance=PROVENANCE | given)["report.html"]).text
    assert "Files that differ from the commit" in text
    assert "7: config/0.yaml, config/1.yaml, config/2.yaml, config/3.yaml, config/4.yaml and 2 more" in text
    assert "snakemake --cores all -- render_pdf" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("timing/rotten_tomatoes.json", '{"task": "rotten', "not a whole JSON file"),
        ("timing/rotten_tomatoes.json", "{}", "lacks device"),
        ("metrics.json", '{"study": "other"}', "belongs to study 'other', not 'synthetic'"),
        ("summary.csv", "", "summary.csv: not a whole table"),
        ("figures/exits_rotten_tomatoes.svg", "<svg", "not a complete SVG file"),
        ("figures/exits_rotten_tomatoes.pdf", None, "no such file"),
    ],
)
def test_damaged_files_are_named_and_nothing_is_written(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    results, data = write_study(tmp_path, made=SMALL)
    empty_figures(results, ("rotten_tomatoes",))
    if content is None:
        (results / name).unlink()
    else:
        (results / name).write_text(content, encoding="utf-8")
    with pytest.raises(EatError, match=re.escape(message)):
        render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, tmp_path / "out", PLACEMENT)
    assert not (tmp_path / "out").exists()


def test_an_empty_number_of_a_trained_system_is_refused(tmp_path: Path) -> None:
    results, data = write_study(tmp_path, made=SMALL)
    summary = pd.read_csv(results / "summary.csv")
    summary.loc[summary.system == "eat-6", "accuracy"] = None
    summary.to_csv(results / "summary.csv", index=False)
    with pytest.raises(DamagedFile, match="accuracy of eat-6 is empty"):
        render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, tmp_path / "out", PLACEMENT)


def test_a_system_that_was_not_timed_has_dashes_and_no_claim(tmp_path: Path) -> None:
    results, data = write_study(tmp_path, made=SMALL)
    empty_figures(results, ("rotten_tomatoes",))
    summary = pd.read_csv(results / "summary.csv")
    own = summary.system == "student-3"
    speed = [name for name in summary.columns if "speedup" in name or "latency" in name or name == "examples_per_s"]
    summary.loc[own, speed] = None
    summary.loc[own, "n_timed"] = 0
    summary.to_csv(results / "summary.csv", index=False)
    out = tmp_path / "out"
    render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, out, PLACEMENT)
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert "not timed" in text.split("Verdicts on rotten_tomatoes")[1].split("student-3")[1].split("eat-6")[0]


def test_tasks_timed_on_two_machines_are_refused(tmp_path: Path) -> None:
    tasks = {"imdb": "imdb", "rotten_tomatoes": "rotten_tomatoes"}
    results, data = write_study(tmp_path, tuple(tasks), SMALL)
    empty_figures(results, tuple(tasks))
    path = results / "timing" / "imdb.json"
    timing = json.loads(path.read_text(encoding="utf-8"))
    timing["machine"]["cpu"] = "another"
    path.write_text(json.dumps(timing), encoding="utf-8")
    with pytest.raises(EatError, match="timed with different values of machine"):
        render_report("synthetic", tasks, results, data, TEMPLATES, PROVENANCE, tmp_path / "out", PLACEMENT)


@pytest.mark.parametrize("at_hand", [True, False])
def test_the_scorecard_shows_the_run_on_a_gpu(tmp_path: Path, at_hand: bool) -> None:
    results, data = write_study(tmp_path, tuple(ONE_TASK), SMALL)
    empty_figures(results, tuple(ONE_TASK))
    gpu = gpu_file(tmp_path / "gpu.csv") if at_hand else None
    render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, tmp_path / "out", PLACEMENT, gpu)
    text = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    tex = (tmp_path / "out" / "results_section.tex").read_text(encoding="utf-8")
    for found in (text, tex):
        assert "On a GPU" in found
        assert ("(SST-2, NVIDIA T1)" in found, "No GPU run is at hand." in found) == (at_hand, not at_hand)


def test_an_inline_figure_brings_nothing_but_drawing(tmp_path: Path) -> None:
    path = tmp_path / "x.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="72pt" viewBox="0 0 72 72" onload="x()">'
        '<style>*{}</style><script>x()</script><g id="a"><path clip-path="url(#c)" d="M 0 0"/></g>'
        '<use href="#a"/><image href="http://example.org/x.png"/></svg>',
        encoding="utf-8",
    )
    root = ElementTree.fromstring(inline_svg(path, "p-"))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "g", "path", "use", "image"}
    text = ElementTree.tostring(root, encoding="unicode")
    assert 'id="p-a"' in text and 'href="#p-a"' in text and "url(#p-c)" in text
    assert "onload" not in text and "example.org" not in text


def test_captions_are_one_plain_sentence_each() -> None:
    for path in sorted(set((TEMPLATES / "captions").glob("*.rst")) - {TEMPLATES / "captions" / "figure.rst"}):
        text = path.read_text(encoding="utf-8").strip()
        assert text.endswith(".") and "\n" not in text and ". " not in text and not re.search(r"[{}`*|]", text), (
            path.name
        )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_odd_names_compile(odd_folder: Path, tmp_path: Path) -> None:
    message = typeset.render_pdf(odd_folder / "results.tex", tmp_path / "results.pdf")
    assert message.startswith("results.pdf was made by")
    assert (tmp_path / "results.pdf").read_bytes().startswith(b"%PDF")
    assert not list(odd_folder.glob("*.aux")) and not list(odd_folder.glob("*.log"))
    if shutil.which("pdftotext"):
        shown = subprocess.run(
            ["pdftotext", "-raw", tmp_path / "results.pdf", "-"], capture_output=True, text=True, check=True
        ).stdout
        assert ODD_TASK in shown and "{{ 7 * 7 }}" in shown


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_text_that_does_not_compile_is_told_in_one_line(tmp_path: Path) -> None:
    tex = tmp_path / "bad.tex"
    tex.write_text(r"\documentclass{article}\begin{document}\nosuchcommand\end{document}", encoding="utf-8")
    with pytest.raises(EatError, match="Undefined control sequence") as error:
        typeset.render_pdf(tex, tmp_path / "bad.pdf")
    assert "\n" not in str(error.value) and not (tmp_path / "bad.pdf").exists()


def test_without_latex_there_is_an_error_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EatError, match="none of latexmk, pdflatex, tectonic is installed; install one"):
        typeset.render_pdf(tmp_path / "results.tex", tmp_path / "results.pdf")
    assert not (tmp_path / "results.pdf").exists()


# --- theory -------------------------------------------------------------------------------------------------------


def task_of(retention: list[dict[str, Any]], exits: list[dict[str, Any]]) -> TaskFiles:
    empty = pd.DataFrame()
    tables = {"exits": pd.DataFrame(exits), "retention": pd.DataFrame(retention)}
    others = dict.fromkeys(("summary", "paper_columns", "lengths", "cost", "buckets", "promises"), empty)
    return TaskFiles("t", "t", **tables, **others, ablation=None, importance=None, card={}, timing={})


def test_the_reach_of_an_operating_point_by_hand() -> None:
    """Three layers; after layer 1 half of the tokens is removed, after layer 2 40 % of the texts leave."""
    alive = {(None, 1): 0.5, (None, 2): 0.5, (None, 3): 0.5, (0.9, 1): 0.5, (0.9, 2): 0.6, (0.9, 3): 0.6}
    retention = [
        {"system": "s", "tau": tau, "over": "running" if tau else "all", "layer": layer, "observed": part}
        for (tau, layer), part in alive.items()
    ]
    exits = [
        {"system": "s", "tau": 0.9, "exit": 2, "fraction": 0.4},
        {"system": "s", "tau": 0.9, "exit": 3, "fraction": 0.6},
    ]
    reach = reach_of(task_of(retention, exits), "s", 0.9)
    assert reach.reached.tolist() == [1.0, 1.0, 0.6]
    assert reach.entering.tolist() == [1.0, 0.5, 0.5]
    assert reach.running.tolist() == [1.0, 0.5, 0.6]
    assert reach.product == pytest.approx(2 / 3 * 2.6 / 3)
    assert reach.executed == pytest.approx((1.0 + 0.5 + 0.6 * 0.6) / 3)


def test_the_measured_exponents_stand_beside_those_of_proposition_1(plain: dict[str, str]) -> None:
    text = Page(plain["report.html"]).text
    assert "an exponent of 2, and that of EAT in proportion to it, an exponent of 1" in text
    theory = text[text.index("Theory and measurement on rotten_tomatoes") :]
    assert re.search(r"eat-6 *0\.90.*?0\.40 *\[0\.35, 0\.45\] *1\.01", " ".join(theory.split()))


@pytest.mark.slow
def test_a_study_whose_texts_have_too_few_lengths_for_a_cost_is_reported(tmp_path: Path) -> None:
    results, data = write_study(tmp_path, ("rotten_tomatoes",), SMALL)
    costs = results / "curves" / "cost.csv"
    pd.read_csv(costs).iloc[:0].to_csv(costs, index=False)
    plot_all(results, ("rotten_tomatoes",), SMALL)
    assert "Too few lengths" in (results / "figures" / "cost_rotten_tomatoes.svg").read_text(encoding="utf-8")
    render_report("synthetic", ONE_TASK, results, data, TEMPLATES, PROVENANCE, results / "report", PLACEMENT)
    page, section = (
        (results / "report" / name).read_text(encoding="utf-8") for name in ("report.html", "results_section.tex")
    )
    assert "The timed texts have fewer than 3 different lengths" in Page(page).text
    assert "fewer than 3 different lengths" in section
    assert "cost_rotten_tomatoes" not in section and "equation (5)" not in Page(page).text


def test_the_errors_of_the_cost_model_are_told(plain: dict[str, str]) -> None:
    """The made-up predictions fall short by a tenth, and by a twentieth with the constant."""
    text = Page(plain["report.html"]).text
    theory = text[text.index("Theory and measurement on rotten_tomatoes") : text.index("Published figures")]
    # side by side in the three rows of the table; the tooltips of the figure have them, too
    assert len(re.findall(rf"{rounding.MINUS}10\.0 %\s*{rounding.MINUS}5\.0 %", theory)) == 3


def test_systems_of_two_calibrations_stand_in_one_report(tmp_path: Path) -> None:
    told = "Calibration is fitted for dense-6, eat-6; raw for eat-6-patience."
    texts = rendered(tmp_path, Made(systems=(DENSE, EAT, replace(PATIENCE, calibration="raw"))))
    assert told in texts["report.html"]
    assert told in texts["results_section.tex"]
    assert "Calibration is" not in rendered(tmp_path / "alike")["report.html"]


def test_names_that_look_like_gaps_and_numbers_stand_in_the_report(tmp_path: Path) -> None:
    texts = rendered(tmp_path, Made(systems=(DENSE, replace(EAT, name="null"))), tasks=("NA", "007"))
    assert ">NA<" in texts["report.html"] and ">007<" in texts["report.html"] and ">null<" in texts["report.html"]
