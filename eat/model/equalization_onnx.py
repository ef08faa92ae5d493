"""Scales of the inputs of int8 products, which make their channels alike.

A few channels of BERT's hidden states are ten times as large as the others. One scale for all channels of a text must
cover them, and the others lose their precision. So a channel j of the input is divided by s_j, and the row j of the
weight is multiplied by it (SmoothQuant, arXiv:2211.10438); the product stays what it is. For each product the scales
are the ones of a few candidates whose int8 product is nearest to the exact one (AWQ's search, arXiv:2306.00978).

The inputs are those of random token ids, so that no text is needed and a model has one int8 form. Inputs of real text
gave similar scales and a tenth less noise. Scales are powers of two: a division by them is exact, and the choice
does not depend on the last digits of a maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eat.model.batch import PackedBatch
from eat.model.encoder import EncoderLayer, PackedEncoder

Floats = npt.NDArray[np.float32]

TEXTS, LONGEST = 16, 48
"""The random texts, and the most tokens of one."""

EVERY = 6
"""The error of a product is that of every sixth output, which takes a sixth of the time."""

SMALLEST = 1e-3

_EQUALIZED = ("up", "down")
"""The products whose inputs have large channels. The inputs of the other two made a twentieth of the variance."""

WORTHWHILE = 0.7
"""The share of the squared error below which a product gets scales, which cost a multiplication of its input."""


def equalization(encoder: PackedEncoder, quantized: Callable[[Floats], Floats]) -> dict[str, Floats]:
    """The scales of the products of each layer that gain from them: `3.up` -> (in,).

    quantized: a weight (in, out) to its values in int8.
    """
    scales = {}
    for name, inputs in _recorded_inputs(encoder).items():
        number, product = name.split(".")
        linear = getattr(encoder.layers[int(number) - 1], product)
        found = _best_scale(inputs, linear.weight.detach()[::EVERY].float().cpu().numpy().T, quantized)
        if found is not None:
            scales[name] = found
    return scales


def _recorded_inputs(encoder: PackedEncoder) -> dict[str, list[Tensor]]:
    """The inputs of the products of every layer for each random text: `3.up` -> (T, in) each."""
    found: dict[str, list[Tensor]] = {}
    hooks = [
        getattr(layer, product).register_forward_pre_hook(partial(_record, found.setdefault(f"{number}.{product}", [])))
        for number, layer in enumerate(encoder.layers, start=1)
        if isinstance(layer, EncoderLayer)
        for product in _EQUALIZED
    ]
    generator = torch.Generator().manual_seed(0)
    device = encoder.embeddings.token.weight.device
    longest = min(LONGEST, encoder.shape.positions)
    try:
        with torch.inference_mode():
            for length in torch.linspace(longest / 4, longest, TEXTS).round().int().tolist():
                ids = torch.randint(encoder.shape.vocabulary, (max(length, 1),), generator=generator)
                encoder(PackedBatch.of([(ids, torch.zeros_like(ids))], device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _record(into: list[Tensor], _: nn.Module, inputs: tuple[Tensor]) -> None:
    into.append(inputs[0].float().cpu())


def _best_scale(inputs: list[Tensor], weight: Floats, quantized: Callable[[Floats], Floats]) -> Floats | None:
    """The candidate with the smallest squared error of the product; `None` if it saves little."""
    largest = torch.stack([x.abs().amax(dim=0) for x in inputs]).amax(dim=0).clamp_min(SMALLEST)
    relative = largest / largest.median()
    candidates = [torch.ones_like(relative)]
    candidates += [(relative / above).clamp_min(1.0) ** power for above in (1.0, 2.0) for power in (0.5, 0.75, 1.0)]
    candidates.append(relative**0.5)
    exact = [x @ torch.from_numpy(np.ascontiguousarray(weight)) for x in inputs]
    errors = []
    scales = [torch.exp2(torch.log2(candidate).round()) for candidate in candidates]
    for scale in scales:
        rounded = torch.from_numpy(quantized(np.ascontiguousarray(weight * scale.numpy()[:, None])))
        pairs = zip(inputs, exact, strict=True)
        errors.append(sum(float(((_rounded(x / scale) @ rounded - y) ** 2).sum()) for x, y in pairs))
    best = int(np.argmin(errors))
    return scales[best].numpy() if errors[best] < WORTHWHILE * errors[0] else None


def _rounded(x: Tensor) -> Tensor:
    """The values of an input (T, in) in 8 bits, with one scale as `DynamicQuantizeLinear` computes it."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255.0 or 1.0
    zero = round(-low / step)
    return ((x / step + zero).round().clamp(0, 255) - zero) * step
