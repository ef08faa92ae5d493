"""`eat monitor`: compare traffic with the reference profile of an exported model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eat.commands.text_file import add_form, form_of
from eat.errors import EatError
from eat.text_table import text_table

if TYPE_CHECKING:
    from eat.monitor.comparison import Comparison, FalseAlarms
    from eat.monitor.observations import Observations
    from eat.monitor.profile import Profile
    from eat.runtime.classifier import Text

HELP = "compare traffic with the reference profile of an exported model"
DESCRIPTION = (
    "Write the reference profile of an exported model (--learn), or compare a window of traffic with it (--window): "
    "depth, labels, confidence and kept tokens, by the population stability index and two-sample tests. The exit "
    "status is 0 if the window is like the profile, and 2 if it is not."
)
EXTRA = "serve"

ALARM = 2
"""The exit status of a window that differs."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="an exported model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--learn", type=Path, metavar="FILE", help="texts as they should be, 200 or more: write a profile"
    )
    what.add_argument("--window", type=Path, metavar="FILE", help="texts, or a log of eat serve: compare them")
    parser.add_argument(
        "--text", action="append", default=[], metavar="COLUMN", dest="columns",
        help="the column of the texts: a name, a number from 1, or a dotted path; twice for pairs",
    )  # fmt: skip
    parser.add_argument("--level", type=float, default=0.01, help="the rate of false alarms aimed at (default: 0.01)")
    parser.add_argument("--last", type=int, metavar="N", help="compare only the last N texts of the window")
    parser.add_argument(
        "--resamples", type=int, default=1000,
        help="windows drawn from the reference to measure the rate of false alarms (default: 1000)",
    )  # fmt: skip
    add_form(parser)


def run(options: argparse.Namespace) -> None:
    """Write the profile, or compare and end with the exit status."""
    import scipy.stats  # noqa: F401  # so that a missing extra is reported before any work

    from eat.runtime.manifest import read_manifest

    if not 0.0 < options.level < 0.5:
        raise EatError(f"--level: found {options.level:g}; give a rate above 0 and below 0.5, such as 0.01")
    if options.resamples < 100:
        raise EatError(f"--resamples: found {options.resamples}; give at least 100, so that the rate means something")
    if options.last is not None and options.last < 1:
        raise EatError(f"--last: found {options.last}; give a whole number from 1 on")
    read_manifest(options.folder)
    if options.learn is not None:
        from eat.monitor.profile import learn_profile

        print(_learned(learn_profile(options.folder, _texts(options.learn, options), options.resamples)))
        return
    alarm = _compare(options)
    sys.exit(ALARM if alarm else 0)


def _learned(profile: Profile) -> str:
    lines = [f"Profile of {len(profile.early)} texts: {profile.early.depth.mean():.2f} layers per text."]
    lines += [
        f"False alarms at windows of {row.window} texts, drawn from these: {_rate(row)}."
        for row in profile.false_alarms
    ]
    return "\n".join(lines)


def _rate(measured: FalseAlarms) -> str:
    low, high = measured.interval
    share = f"{100 * measured.rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{measured.alarms} of {measured.resamples} ({share})"


def _compare(options: argparse.Namespace) -> bool:
    """Compare a window and print the table; whether it differs."""
    from eat.monitor.comparison import SMALLEST_WINDOW, compare, false_alarms
    from eat.monitor.profile import read_profile

    profile = read_profile(options.folder)
    window, full_depth = _window(options)
    reference = profile.reference(full_depth)
    if len(window) < SMALLEST_WINDOW:
        raise EatError(
            f"{options.window}: {len(window)} texts; a comparison needs at least {SMALLEST_WINDOW}: give a longer one"
        )
    found = compare(reference, window, options.level)
    print(_table(found, full_depth))
    size = min(len(window), len(reference) // 2)
    measured = false_alarms(reference, size, options.resamples, options.level)
    print(
        f"False alarms: at most {100 * options.level:g} % of windows by design; of windows of {size} texts "
        f"drawn from the profile, {_rate(measured)} raised one."
    )
    print(f"ALARM: {', '.join(found.differing)} differ from the profile." if found.alarm else "Quiet.")
    return found.alarm


def _window(options: argparse.Namespace) -> tuple[Observations, bool]:
    """The observations of the window, and whether they are at full depth."""
    import numpy as np

    from eat.monitor.observations import is_log, observe, read_log
    from eat.runtime.classifier import AdaptiveClassifier

    if is_log(options.window):
        found, full_depth = read_log(options.window)
        start = max(len(found) - options.last, 0) if options.last else 0
        return found.rows(np.arange(start, len(found))), full_depth
    texts = _texts(options.window, options)
    return observe(
        AdaptiveClassifier.load(options.folder, threads=1), texts[-options.last :] if options.last else texts
    ), False


def _texts(path: Path, options: argparse.Namespace) -> list[Text]:
    """The texts of a file, without empty ones."""
    from eat.text_files.columns import chosen_columns, is_empty, require_columns

    try:
        from eat.prepare.sources.tables import column_of, read_rows, strings
    except ModuleNotFoundError as error:
        raise EatError(
            f'{path}: a file of texts needs {error.name}: pip install "eat-study[study]"; a log of eat serve does not'
        ) from None
    table = read_rows(path, form_of(options))
    columns = chosen_columns(path, [str(name) for name in table.columns], options.columns)
    require_columns(columns)
    cells = [strings(path, column, column_of(path, table, column)) for column in columns]
    rows = [row for row in zip(*cells, strict=True) if not any(is_empty(text) for text in row)]
    if not rows:
        raise EatError(f"{path}: holds no text; give a file with texts in it")
    return [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows]


def _table(found: Comparison, full_depth: bool) -> str:
    """The comparison as a table."""
    rows = [["quantity", "profile", "window", "PSI", "test", "statistic", "p", "differs"]]
    for shift in found.shifts:
        means = [f"{mean:.3f}" if mean is not None else "" for mean in (shift.reference_mean, shift.window_mean)]
        tested = [f"{shift.psi:.3f}", shift.test, f"{shift.statistic:.3f}", f"{shift.p:.2g}"]
        rows.append([shift.quantity, *means, *tested, "yes" if shift.differs else "no"])
    kind = " at full depth" if full_depth else ""
    return f"{found.texts} texts{kind} against the profile, means in the columns\n{text_table(rows)}"
