"""The ticks of a logarithmic axis. They have their own module because the class needs its base class on import."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import LogLocator, MaxNLocator


class RoundNumbers(LogLocator):
    """Ticks at round numbers within each power of ten, as many as possible up to `most`.

    An axis so short that fewer than three of them are on it gets ticks at equal steps.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """The ticks for an axis from `vmin` to `vmax`."""
        for digits in ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0,)):
            self.set_params(subs=digits)
            ticks = list(super().tick_values(vmin, vmax))
            shown = sum(vmin <= tick <= vmax for tick in ticks)
            if shown <= self.most:
                break
        return ticks if shown > 2 else list(MaxNLocator(self.most, steps=[1, 2, 5, 10]).tick_values(vmin, vmax))
