"""Training of heads on a frozen encoder.

A frozen encoder gives a text the same vectors in every epoch, so what a head reads (`ExitHead.vector`) is computed once
and kept, and a head is then a small classifier of vectors. Full depth stays as it was. The encoder may be run by any
engine: whatever runs it, it removes the tokens that it removes at inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eat.errors import EatError
from eat.files import replacing
from eat.finetune.losses import JointLoss
from eat.model.batch import PackedBatch
from eat.model.encoder import PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.heads import ExitHead
from eat.model.tokenizer import Encoded
from eat.progress import Progress

Vectors = Mapping[int, npt.NDArray[np.float16]]
"""Layer -> what its head reads of each text; (N, width)."""

TOGETHER = 32
"""The texts per call of the encoder, of similar length."""


@dataclass(frozen=True)
class HeadOptions:
    """The optimisation of the heads: AdamW, whose rate falls linearly to 0.

    epochs: passes over the vectors. weight_decay: of the weights, not of the biases.
    """

    epochs: float = 20.0
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    seed: int = 0


def vectors_and_logits(
    encoder: PackedEncoder, texts: Sequence[Encoded], depths: Sequence[int]
) -> tuple[dict[int, npt.NDArray[np.float16]], npt.NDArray[np.float32]]:
    """What the heads after these layers read of each text, and the logits (N, C) of the last head.

    Raises `EatError` if a head has a reader of its own, whose output changes while it is trained.
    """
    for depth in depths:
        if encoder.head(depth).reader is not None:
            raise EatError(f"the head after layer {depth} reads by attention, which is trained; its vectors vary")
    read: dict[int, npt.NDArray[np.float16]] = {}
    logits = np.empty((len(texts), encoder.shape.classes), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].ids))
    with torch.inference_mode(), Progress("ran the encoder on", len(texts), "texts") as progress:
        for start in range(0, len(texts), TOGETHER):
            rows = order[start : start + TOGETHER]
            seen: dict[int, Tensor] = {}
            hooks = [
                encoder.head(depth).register_forward_pre_hook(_recorder(encoder.head(depth), depth, seen))
                for depth in depths
            ]
            try:
                batch = PackedBatch.of([texts[row] for row in rows], encoder.embeddings.token.weight.device)
                # without a head to record, only the last is evaluated
                logits[rows] = encoder(batch, None if depths else ExitPolicy()).logits.float().cpu().numpy()
            finally:
                for hook in hooks:
                    hook.remove()
            for depth, vectors in seen.items():
                if depth not in read:
                    read[depth] = np.empty((len(texts), vectors.shape[1]), dtype=np.float16)
                in_order = np.empty(tuple(vectors.shape), dtype=np.float16)
                in_order[batch.rows] = vectors.half().cpu().numpy()
                read[depth][rows] = in_order
            progress.advance(len(rows))
    return read, logits


def kept_vectors(
    encoder: PackedEncoder, texts: Sequence[Encoded], depths: Sequence[int], folder: Path
) -> tuple[Vectors, npt.NDArray[np.float32]]:
    """The results of `vectors_and_logits` that a folder keeps, or new ones, which are kept there."""
    files = {depth: folder / f"vectors_{depth}.npy" for depth in depths}
    last = folder / "logits.npy"  # written last: the vectors are then complete
    if not last.is_file():
        read, logits = vectors_and_logits(encoder, texts, depths)
        for depth, vectors in read.items():
            np.save(files[depth], vectors)
        with replacing(last) as temporary, open(temporary, "wb") as file:
            np.save(file, logits)
    return {depth: np.load(path, mmap_mode="r") for depth, path in files.items()}, np.load(last)


def _recorder(head: ExitHead, depth: int, seen: dict[int, Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that keeps what a head reads."""

    def record(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        hidden, layout = inputs
        seen[depth] = head.vector(hidden, layout)

    return record


def train_heads(
    heads: Mapping[int, ExitHead],
    vectors: Vectors,
    teacher: npt.NDArray[np.float32],
    loss: JointLoss,
    options: HeadOptions,
    labels: npt.NDArray[np.int64] | None = None,
    last: int | None = None,
) -> list[dict[str, float]]:
    """Train heads on vectors, all at the same time; they share no parameter, so each is trained as if alone.

    heads: layer -> head. teacher: logits (N, C), the targets of the distillation. labels: (N,), of equation 1, if the
    loss has it. last: the last layer, if its head, which is not trained, is the teacher (`JointLoss.itself`); `teacher`
    then holds its logits. Returns a line per epoch: step, epoch, loss and its parts. Raises `EatError` if the loss is
    not finite.
    """
    count = len(teacher)
    steps_an_epoch = -(-count // options.batch_size)
    steps = max(round(steps_an_epoch * options.epochs), 1)
    parameters = [parameter for head in heads.values() for parameter in head.parameters()]
    groups = [
        {"params": [one for one in parameters if (one.ndim > 1) == decays], "weight_decay": decay}
        for decays, decay in ((True, options.weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
    warm = max(round(steps * options.warmup), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(steps - warm, 1))
    )
    generator = torch.Generator().manual_seed(options.seed)
    targets = torch.from_numpy(teacher)
    truth = torch.zeros(count, dtype=torch.int64) if labels is None else torch.from_numpy(labels)
    lines: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    order = torch.empty(0, dtype=torch.int64)
    with Progress("trained the heads, step", steps) as progress:
        for step in range(steps):
            place = step % steps_an_epoch
            if place == 0:
                order = torch.randperm(count, generator=generator)
            rows = order[place * options.batch_size : (place + 1) * options.batch_size]
            picked = rows.numpy()
            exits = {
                depth: head.classify(torch.from_numpy(vectors[depth][picked].astype(np.float32)))
                for depth, head in heads.items()
            }
            if last is not None:
                exits[last] = targets[rows]
            parts = loss(exits, truth[rows], targets[rows])
            total = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(total):
                raise EatError(f"the loss of the heads is {total.item()} at step {step + 1}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            if place == steps_an_epoch - 1 or step == steps - 1:
                means = {name: value / (place + 1) for name, value in sums.items()}
                lines.append(
                    {"step": step + 1, "epoch": (step + 1) / steps_an_epoch, "loss": sum(means.values()), **means}
                )
                sums = {}
            progress.advance()
    return lines
