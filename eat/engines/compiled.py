"""Stock `transformers` compiled by PyTorch with CUDA graphs, a rival of `eat.engines.graphs`.

`torch.compile(mode="reduce-overhead")` fuses what can be fused, and captures the result in CUDA graphs. Every shape of
the input is compiled by itself, which takes from several seconds to half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from eat.engines.stock import StockModel
from eat.model.tokenizer import Encoded

MODE = "reduce-overhead"

SHAPES = 64
"""The most shapes of the input that are compiled; PyTorch's default is 8, after which it runs eagerly."""


class CompiledModel(StockModel):
    """A compiled model of `transformers` on a device."""

    def __init__(self, model: PreTrainedModel, device: torch.device, backend: str = "inductor") -> None:
        super().__init__(model, device)
        options: dict[str, Any] = {"mode": MODE} if backend == "inductor" else {}
        self._model = torch.compile(model, backend=backend, dynamic=False, **options)

    def logits(self, texts: Sequence[Encoded]) -> Tensor:
        """The logits of texts on the host; (B, C). The next call overwrites the result on the device."""
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch._dynamo.config.patch(recompile_limit=SHAPES):
            return super().logits(texts).cpu()


@cache
def compiler_fault(device: torch.device) -> str | None:
    """Why PyTorch cannot compile for a device here, in one line; `None` if it can. Compiles a small function."""
    try:
        x = torch.ones(8, 8, device=device)
        with torch.inference_mode():
            difference = float((torch.compile(_probe, mode=MODE)(x).cpu() - _probe(x).cpu()).abs().max())
    except Exception as error:  # whatever a compiler, or the lack of one, raises
        return f"torch.compile does not run here ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    return None if difference <= 1e-4 else f"torch.compile computes wrong sums here ({difference:.1e} off)"


def _probe(x: Tensor) -> Tensor:
    return torch.tanh(x @ x) + x
