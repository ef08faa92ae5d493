"""Rounding: the only module that formats numbers for readers.

Functions take the plain numbers of a study's files (accuracies as fractions, times in milliseconds) and return text
without a unit, since the unit is in the column's title or in the sentence; `x_times`, `with_percent` and a few more
add it. The text contains the Unicode minus and multiplication signs; the LaTeX templates translate them.

Every function raises `EatError` for NaN and infinity. A cell that may be empty goes through `or_dash`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from eat.files import require_finite

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"

DIGIT_SPACE = "\N{FIGURE SPACE}"
POINT_SPACE = "\N{PUNCTUATION SPACE}"

Rounder = Callable[[float], str]


def _fixed(name: str, value: float, decimals: int, sign: bool = False) -> str:
    """`value` with this number of decimals, a true minus sign, and no sign if it rounds to zero."""
    rounded = round(require_finite(name, float(value)), decimals)
    if rounded == 0:
        return f"{0:.{decimals}f}"
    return f"{rounded:{'+' if sign else ''},.{decimals}f}".replace("-", MINUS)


def percent(fraction: float) -> str:
    """A fraction as per cent, one decimal: 0.9246 is `92.5`."""
    return _fixed("a percentage", 100.0 * fraction, 1)


def with_percent(fraction: float) -> str:
    """The same with its sign, for prose: `92.5 %`."""
    return f"{percent(fraction)} %"


def share(fraction: float) -> str:
    """A configured share, without trailing zeros: 0.3 is `30 %`, 0.125 is `12.5 %`."""
    return f"{percent(fraction).removesuffix('.0')} %"


def signed_percent(fraction: float) -> str:
    """An error relative to what was observed, in per cent, signed, one decimal: -0.17 is `−17.0`."""
    return _fixed("an error", 100.0 * fraction, 1, sign=True)


def points(fraction: float) -> str:
    """A difference of fractions in percentage points, signed, one decimal: -0.0207 is `−2.1`."""
    return _fixed("a difference in points", 100.0 * fraction, 1, sign=True)


def calibration_error(fraction: float) -> str:
    """An ECE in per cent, two decimals: 0.0213 is `2.13`."""
    return _fixed("a calibration error", 100.0 * fraction, 2)


def risk(fraction: float) -> str:
    """A risk in per cent, two decimals: 0.0125 is `1.25`."""
    return _fixed("a risk", 100.0 * fraction, 2)


def correlation(value: float) -> str:
    """A rank correlation, two decimals: `0.31`."""
    return _fixed("a correlation", value, 2)


def milliseconds(value: float) -> str:
    """A time in milliseconds, two decimals below 100 and one from there on."""
    return _fixed("a time", value, 2 if abs(value) < 100 else 1)


def seconds(value: float) -> str:
    """A duration in seconds, one decimal."""
    return _fixed("a duration", value, 1)


def speedup(times: float) -> str:
    """A ratio of times, two decimals: `3.31`."""
    return _fixed("a speed-up", times, 2)


def x_times(times: float) -> str:
    """The same with its sign, for prose: `3.31×`."""
    return f"{speedup(times)}{TIMES}"


def throughput(examples_per_second: float) -> str:
    """Examples per second, one decimal below 100 and none from there on."""
    return _fixed("a throughput", examples_per_second, 1 if abs(examples_per_second) < 100 else 0)


def depth(layers: float) -> str:
    """Mean executed layers, two decimals."""
    return _fixed("a depth", layers, 2)


def retention(fraction: float) -> str:
    """The share of kept tokens, three decimals, as in the paper."""
    return _fixed("a retention", fraction, 3)


def ratio(value: float) -> str:
    """A ratio of FLOPs, two decimals."""
    return _fixed("a ratio", value, 2)


def gflops(billions: float) -> str:
    """10^9 operations per text, three decimals below 1 and two from there on: `0.592`, `4.87`."""
    return _fixed("a number of operations", billions, 3 if abs(billions) < 1 else 2)


def exponent(power: float) -> str:
    """An exponent of growth, two decimals."""
    return _fixed("an exponent", power, 2)


def score(value: float) -> str:
    """A score or loss without unit (Brier, NLL), three decimals."""
    return _fixed("a score", value, 3)


def temperature(value: float) -> str:
    """A softmax temperature, two decimals."""
    return _fixed("a temperature", value, 2)


def threshold(tau: float) -> str:
    """A threshold with two decimals, or more if it has more: `0.80`, `0.975`."""
    shortest = repr(round(require_finite("a threshold", float(tau)), 6))
    decimals = len(shortest.partition(".")[2])
    return f"{tau:.{max(2, min(decimals, 6))}f}"


def count(number: float) -> str:
    """A whole number with commas between thousands: `33,530`."""
    return f"{round(require_finite('a count', float(number))):,}".replace("-", MINUS)


def p_value(probability: float) -> str:
    """A p-value: three decimals, and `< 0.001` below."""
    return "< 0.001" if require_finite("a p-value", float(probability)) < 0.001 else f"{probability:.3f}"


def gibibytes(value: float) -> str:
    """Memory in GiB, one decimal."""
    return _fixed("a size of memory", value, 1)


def interval(low: float, high: float, rounder: Rounder) -> str:
    """An interval with both ends rounded in the same way: `[91.2, 93.8]`."""
    return f"[{rounder(low)}, {rounder(high)}]"


def with_interval(value: float, low: float, high: float, rounder: Rounder) -> str:
    """A value and its interval, rounded in the same way: `92.5 [91.2, 93.8]`."""
    return f"{rounder(value)} {interval(low, high, rounder)}"


def or_dash(value: float | None, rounder: Rounder) -> str:
    """The rounded value, or an en dash for a cell that is empty in the file."""
    return DASH if value is None or math.isnan(value) else rounder(value)


def fraction(value: float) -> str:
    """A fraction as the paper's tables print an accuracy, four decimals: `0.9246`."""
    return _fixed("a fraction", value, 4)


def already_points(value: float) -> str:
    """A difference already in percentage points, signed, two decimals as in the paper's tables: `−2.07`."""
    return _fixed("a difference in points", value, 2, sign=True)


def span(values: Sequence[float], rounder: Rounder, unit: str = "") -> str:
    """Several published values of a quantity: one number if they round alike, else the smallest and the largest."""
    if not values:
        return DASH
    low, high = rounder(min(values)), rounder(max(values))
    between = " to " if {low[0], high[0]} & {MINUS, "+"} else DASH
    return f"{low if low == high else low + between + high}{unit}"


def padded(texts: Sequence[str]) -> list[str]:
    """Numbers of a right-aligned column, padded so that their decimal points are aligned.

    The blanks are as wide as a digit or a point. A sign after the number counts; text without a single number, such as
    a dash, is returned unchanged.
    """
    number = re.compile(rf"[+{MINUS}]?[\d,]+(?:\.(\d+))?({TIMES}?)")
    found = [number.fullmatch(text) for text in texts]
    most = max((len(match[1] or "") for match in found if match), default=0)
    return [
        text + _blank(most - len(match[1] or ""), point=match[1] is None) if match else text
        for text, match in zip(texts, found, strict=True)
    ]


def _blank(digits: int, point: bool) -> str:
    return (POINT_SPACE if point and digits else "") + digits * DIGIT_SPACE
