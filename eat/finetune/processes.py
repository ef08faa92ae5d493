"""What the processes that train one stage exchange: the first weights, losses, gradients.

Each process runs the Hugging Face `Trainer` as if it were alone, with its share of every batch
(`eat.finetune.shares`). The `Trainer` would otherwise split batches and average gradients by rules of its own, and wrap
the model in `DistributedDataParallel`, whose forward pass is not the one that is called here. So the variables from
which it and `accelerate` learn that there are several processes are removed once the processes have met.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from eat.finetune.shares import Share

PATIENCE = timedelta(days=7)
"""How long processes wait for each other. Another training of the same model may have to end first; a process that
fails or is killed is noticed by what has started it, and ends the others."""

READ_BY_ACCELERATE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""The variables that tell `accelerate` of several processes, besides its own."""


@contextmanager
def meeting(share: Share, device: str) -> Iterator[None]:
    """Let the processes meet, by NCCL on CUDA and by gloo on the CPU, before the block; a single process is alone.

    The environment has their addresses, as set by `accelerate launch`.
    """
    if share.is_whole:
        yield
        return
    backend = "nccl" if device == "cuda" else "gloo"
    transformers_logging.set_verbosity_error()  # the Trainer warns that it does not know of the other processes
    dist.init_process_group(backend, rank=share.rank, world_size=share.of, timeout=PATIENCE)
    for name in [*os.environ]:
        if name in READ_BY_ACCELERATE or name.startswith("ACCELERATE_"):
            del os.environ[name]
    yield
    # not after an error, of which the others know nothing: they are ended, and this could wait for them
    dist.destroy_process_group()


def number_of_first(number: int, device: str) -> int:
    """The number that the first process gives."""
    found = torch.tensor([number], device=device)
    dist.broadcast(found, src=0)
    return int(found.item())


def weights_of_first(model: nn.Module) -> None:
    """Give all processes, in place, the weights of the first, whose initial model may differ in its last digits."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


def added(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums over all processes of named scalars, which have the same names in all; without gradients."""
    if not parts:
        return {}
    values = torch.stack([part.detach().float() for part in parts.values()])
    dist.all_reduce(values)
    return dict(zip(parts, values, strict=True))


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradient of each parameter by the sum over all processes, in one exchange.

    A parameter without a gradient in every process has none afterwards, so that the optimizer leaves it alone.
    """
    if not parameters:
        return
    like = parameters[0]
    flags = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=like.device)
    own = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    flat = torch.cat([flags, *(gradient.reshape(-1).float() for gradient in own)])
    dist.all_reduce(flat)
    present, *sums = torch.split(flat, [len(parameters), *(each.numel() for each in parameters)])
    for parameter, has_one, total in zip(parameters, present.tolist(), sums, strict=True):
        parameter.grad = total.view_as(parameter).to(parameter.dtype) if has_one else None
