"""Another reducer in the place of a model's own for some passes, such as one that observes what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eat.model.encoder import PackedEncoder
from eat.model.reducers.base import Reducer


class Observer(Reducer):
    """A reducer that is asked where another one is, and is given the same inputs. A subclass defines `reduce`."""

    def __init__(self, observed: Reducer) -> None:
        super().__init__(sorted(observed.after), observed.protect, observed.dimensions)
        self.observed = observed
        self.place = observed.place
        self.needs_received = observed.needs_received
        self.counts_own_query = observed.counts_own_query
        self.needs_keys = observed.needs_keys


@contextmanager
def reducing_by(encoder: PackedEncoder, reducer: Reducer) -> Iterator[None]:
    """Let an encoder reduce by another reducer in the block."""
    own = encoder.reducer
    encoder.reducer = reducer
    try:
        yield
    finally:
        encoder.reducer = own
