"""The cost of a precision on this machine: the time of a product relative to float32.

If a processor lacks an instruction, libraries emulate it, which may take a thousand times as long, or saturate. So the
speed is measured, once per process, instead of read from a list of features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from eat.processor import processor_name

SLOWEST = 2.0
"""The largest allowed slowdown of a product relative to float32."""

ROUNDS, SECONDS = 20, 0.5
"""The limits on rounds and seconds; if a product is far too slow, one round is enough."""

MISSING = (RuntimeError, AttributeError, TypeError)
"""The exceptions that PyTorch raises if it has no kernel for a precision on a device, or lacks its library."""

Product = Callable[[], Tensor]
"""Computes something, and returns a tensor that can be waited for."""


def slowdown(tried: Product, plain: Product) -> float:
    """The shortest time of `tried` over the shortest of `plain`, in turn.

    Both run on one thread. The shortest of several calls is the least affected by other work on the machine.
    """
    best = [math.inf, math.inf]
    with _one_thread():
        for product in (tried, plain):
            _seconds(product)  # builds kernels
        began = time.perf_counter()
        for _ in range(ROUNDS):
            best = [min(known, _seconds(product)) for known, product in zip(best, (tried, plain), strict=True)]
            if time.perf_counter() - began > SECONDS:
                break
    return best[0] / best[1]


def _seconds(product: Product) -> float:
    began = time.perf_counter()
    product().flatten()[:1].tolist()  # waits for the device
    return time.perf_counter() - began


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def example(device: torch.device, texts: int = 1) -> tuple[nn.Linear, Tensor]:
    """A product for measuring the speed of a device, and its input (n, in), float32, uniform in [-1, 1).

    On a CPU it is that of short texts in a layer of MiniLM; on a GPU it is larger than the launch overhead.
    """
    rows, inputs, outputs = (27 * texts, 384, 1536) if device.type == "cpu" else (4096, 1024, 4096)
    generator = torch.Generator().manual_seed(0)  # keeps the global random state for training
    with torch.device("meta"):
        linear = nn.Linear(inputs, outputs)
    linear.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.uniform_(-1.0, 1.0, generator=generator)
    return linear.to(device), torch.empty(rows, inputs).uniform_(-1.0, 1.0, generator=generator).to(device)


def too_slow(times: float) -> str | None:
    """The description of a slowdown above `SLOWEST`, else `None`."""
    return f"takes {times:.{0 if times >= 10 else 1}f} times as long as float32" if times > SLOWEST else None


def where(device: torch.device) -> str:
    """The name of a device in messages."""
    return f"this {'processor' if device.type == 'cpu' else 'GPU'} ({processor_name(device)})"
