"""The comparison as Markdown, for a terminal or a pull request, and as a page with the frontiers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from eat import rounding
from eat.compare.changes import Change, Changes, changes_between
from eat.compare.overlay import plot_overlay
from eat.compare.reruns import Rerun, reruns_between
from eat.compare.states import State
from eat.errors import listed
from eat.figures import style
from eat.files import write_text
from eat.report.environments import html_environment, render, style_and_script
from eat.report.inline import inline_svg
from eat.report.table import Column, Group, Table, text_row, to_markdown

REASONS = 6
"""The most reasons that are shown for a rule; of the others, the number is shown."""


def compare(before: State, after: State, reference: str, templates: Path, out: Path) -> str:
    """Write `diff.md`, `diff.html` and a frontier per common task into `out`; returns the Markdown.

    reference: the dense system, which is drawn in black. templates: the project's `report/`.
    """
    changes, reruns = changes_between(before, after), reruns_between(before, after)
    sentences = _sentences(before, after, changes, reruns)
    tables = [table for table in (_changes_table(changes.compared), _reruns_table(reruns)) if table.groups]
    tasks = [task for task in dict.fromkeys(after.summary["task"]) if task in set(before.summary["task"])]
    drawings = []
    for number, task in enumerate(tasks, start=1):
        pdf, svg = out / f"frontier-{number}.pdf", out / f"frontier-{number}.svg"
        style.write(partial(plot_overlay, before, after, task, reference), pdf, svg)
        drawings.append((task, inline_svg(svg, prefix=f"d{number}-")))
    title = f"{before.name} to {after.name}"
    markdown = "\n".join(
        [f"# {_plain(title)}", "", *(f"{_plain(sentence)}\n" for sentence in sentences), *_as_markdown(tables)]
    )
    context = {
        "title": title,
        "sentences": sentences,
        "tables": tables,
        "drawings": drawings,
        **style_and_script(templates),
    }
    page = render(html_environment(templates), "diff.html.jinja", context)
    write_text(out / "diff.md", markdown)
    write_text(out / "diff.html", page)
    return markdown


def _sentences(before: State, after: State, changes: Changes, reruns: Sequence[Rerun]) -> list[str]:
    tally = Counter(one.verdict for one in changes.compared)
    beyond, within = rounding.count(tally["beyond the noise"]), rounding.count(tally["within the noise"])
    sentences = [
        f"{rounding.count(len(changes.compared))} numbers of chosen operating points were compared: {beyond} changed "
        f"by more than the noise, {within} within the noise, {rounding.count(tally['changed'])} without noise "
        f"changed, {rounding.count(tally['unchanged'])} are unchanged.",
        "A change of accuracy is more than noise if it exceeds both intervals, taken as independent; a change of "
        "speed-up, if it exceeds both intervals and the noise floor of the clock (a system timed against itself).",
    ]
    for word, names in (("New", changes.added), ("Gone", changes.removed)):
        if names:
            sentences.append(f"{word}: {listed(names)}.")
    for state in (before, after):
        if state.busy:
            sentences.append(f"{state.name}: the machine was busy while {listed(sorted(state.busy))} was timed.")
    if not before.records or not after.records:
        sentences.append("The rerun rules are unknown: a state has no records.json.")
    elif not reruns:
        sentences.append("No rule was rerun.")
    return sentences


def _changes_table(changes: Sequence[Change]) -> Table:
    columns = ("System", "Number", "Before", "After", "Change", "Verdict")
    groups = []
    shown = [one for one in changes if one.verdict != "unchanged"]
    for task in dict.fromkeys(one.task for one in shown):
        rows = [
            text_row(one.system, one.what, one.before, one.after, one.change, one.verdict)
            for one in shown
            if one.task == task
        ]
        groups.append(Group(task, tuple(rows)))
    heads = tuple(Column(title, align="left") for title in columns)
    return Table("Changes at the chosen threshold of each system.", "changes", heads, tuple(groups))


def _reruns_table(reruns: Sequence[Rerun]) -> Table:
    rows = []
    for one in reruns:
        more = len(one.reasons) - REASONS
        reasons = listed(one.reasons[:REASONS]) + (f" and {rounding.count(more)} more" if more > 0 else "")
        jobs = f"{rounding.count(one.jobs)} of {rounding.count(one.of)}"
        rows.append(text_row(one.rule, jobs, reasons))
    columns = (
        Column("Rule", align="left"),
        Column("Jobs", align="left"),
        Column("Differences", align="left", width=0.6),
    )
    groups = (Group("", tuple(rows)),) if rows else ()
    return Table("The rules that were rerun, and the differences in their inputs.", "reruns", columns, groups)


def _as_markdown(tables: Sequence[Table]) -> list[str]:
    parts = []
    for table in tables:
        parts.append(f"**{table.caption}**\n")
        for group in table.groups:
            if group.heading:
                parts.append(f"{_plain(group.heading)}:\n")
            parts.append(to_markdown(replace(table, groups=(group,))))
    return parts


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in " ".join(text.split()))
