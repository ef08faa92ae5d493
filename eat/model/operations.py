"""The operations of a part of a model; `eat.results.flops` adds them up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:  # the parts of heads are read without NumPy
    import numpy as np
    import numpy.typing as npt

Count = TypeVar("Count", float, "npt.NDArray[np.float64]")


class Operations(NamedTuple):
    """The operations of a part for a text of t tokens: fixed + per_token t + per_pair t^2."""

    fixed: float = 0.0
    per_token: float = 0.0
    per_pair: float = 0.0


NO_OPERATIONS = Operations()


def layer_operations(
    hidden: int, attention: Count, intermediate: Count, attended: Count, fed: Count, pairs: Count
) -> Count:
    """Floating-point operations of a layer, 8 d e a + 4 e s + 4 d m f.

    attended (a), fed (f): tokens that enter attention, whose heads together have the width e, and the feed-forward
    part, of width m. pairs (s): attended pairs. The projections of query, key, value and output, the scores and the
    context of all attention heads, and the two products of the feed-forward part; a multiply-add is two operations.
    """
    return 8.0 * hidden * attention * attended + 4.0 * attention * pairs + 4.0 * hidden * intermediate * fed
