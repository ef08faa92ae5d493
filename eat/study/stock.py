"""The stock rows of a study: the reference's weights in `transformers`."""

from __future__ import annotations

STOCK = "hf-dense"
"""The baseline of every speed-up."""

STOCK_AGAIN = f"{STOCK}-again"
"""The same, timed a second time (A/A): the noise floor of the clock."""

STOCK_SORTED = f"{STOCK}-sorted"
"""The same with batches of similar lengths."""

SAME_MODEL = (STOCK, STOCK_AGAIN, STOCK_SORTED)
"""The rows that time the stock export of the reference: they share its accuracy and its FLOPs."""

STOCK_PREFIX = STOCK
"""The prefix of all stock rows, including other precisions (hf-dense-int8) and depths (hf-dense-12)."""


def stock_variant(kind: str | int) -> str:
    """The row of a stock model in another precision, or of another number of layers."""
    return f"{STOCK}-{kind}"
