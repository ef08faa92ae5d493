"""The stock rows beside a study's systems: the reference's weights as `transformers` runs them."""

from __future__ import annotations

STOCK = "hf-dense"
"""What every speed-up is against."""

STOCK_AGAIN = f"{STOCK}-again"
"""The same, timed as if it were another system (A/A): what the clock shows of a system against itself."""

STOCK_SORTED = f"{STOCK}-sorted"
"""The same with batches of like lengths."""

SAME_MODEL = (STOCK, STOCK_AGAIN, STOCK_SORTED)
"""The rows that time the stock export of the reference: they share its accuracy and its FLOPs."""

STOCK_PREFIX = STOCK
"""How every stock row's name begins, those of other precisions (hf-dense-int8) and depths (hf-dense-12) too."""


def stock_variant(kind: str | int) -> str:
    """The row of a stock model in another precision, or of another number of layers."""
    return f"{STOCK}-{kind}"
