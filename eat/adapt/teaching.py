"""The heads of an adapted model: taught by the model itself, with texts that need no labels.

Kept in the state folder, so that a run that was interrupted goes on: the vectors that the heads read, the logits of the
given model, and the trained heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from eat.calibrate.disagreement import CANDIDATES, ExitAnswers
from eat.calibrate.promises import NEVER
from eat.files import replacing
from eat.finetune.frozen_heads import HeadOptions, kept_vectors, train_heads
from eat.finetune.losses import JointLoss
from eat.model.encoder import PackedEncoder
from eat.model.heads import ExitHead
from eat.model.tokenizer import Encoded

TEMPERATURE = 2.0
"""T of the distillation."""

STEPS = 1000
"""The fewest optimisation steps, however few the texts."""

HEAD_COST = 0.1
"""The time of a head, in layers: of small products that leave most of a processor idle."""


def teach(
    encoder: PackedEncoder, heads: Mapping[int, ExitHead], texts: Sequence[Encoded], state: Path, seed: int
) -> npt.NDArray[np.float32]:
    """Train the heads after the layers of `heads`, in place, and return the logits (N, C) of the last head."""
    read, logits = kept_vectors(encoder, texts, list(heads), state)
    file = state / "heads.safetensors"
    modules = torch.nn.ModuleDict({str(depth): head for depth, head in heads.items()})
    if file.is_file():
        modules.load_state_dict(load_file(file))
        return logits
    equal = dict.fromkeys(heads, 1.0)
    loss = JointLoss(equal, mu=1.0, temperature=TEMPERATURE, distilled=equal, labels=0.0)
    options = HeadOptions(seed=seed)
    epochs = max(options.epochs, STEPS * options.batch_size / len(texts))
    train_heads(heads, read, logits, loss, HeadOptions(seed=seed, epochs=epochs))
    with replacing(file) as temporary:
        save_file(modules.state_dict(), temporary)
    return logits


def useful_heads(
    heads: Mapping[int, ExitHead], state: Path, logits: npt.NDArray[np.float32], disagreement: float
) -> list[int]:
    """The layers whose heads save more than they cost, on the texts that taught them.

    Every text evaluates the heads that it passes. Heads are dropped one by one, as long as the mean cost at this
    disagreement falls. The texts on which the threshold is chosen play no part, so the promise is not affected.
    """
    depths = sorted(heads)
    with torch.inference_mode():
        found = {
            depth: heads[depth].classify(torch.from_numpy(np.load(state / f"vectors_{depth}.npy").astype(np.float32)))
            for depth in depths
        }
    certainty = np.stack([torch.softmax(found[depth], 1).amax(1).double().numpy() for depth in depths], axis=1)
    full = logits.argmax(axis=1)
    differs = np.stack(
        [*(found[depth].argmax(1).numpy() != full for depth in depths), np.zeros(len(full), bool)], axis=1
    )
    layers = max(depths) + 1

    def cost(kept: list[int]) -> float:
        places = [depths.index(depth) for depth in kept]
        # a text that answers at the last layer has passed every head
        each = [depth + HEAD_COST * (place + 1) for place, depth in enumerate(kept)] + [layers + HEAD_COST * len(kept)]
        answers = ExitAnswers(
            certainty[:, places], differs[:, [*places, len(depths)]], np.tile(np.array(each), (len(full), 1))
        )
        best = answers.mean_cost([NEVER] * len(kept))
        for threshold in CANDIDATES[::5]:
            thresholds = [threshold] * len(kept)
            if answers.disagreement(thresholds).mean() > disagreement:
                break
            best = min(best, answers.mean_cost(thresholds))
        return best

    kept = list(depths)
    lowest = cost(kept)
    while len(kept) > 1:
        found_cost, without = min((cost([one for one in kept if one != depth]), depth) for depth in kept)
        if found_cost >= lowest:
            break
        lowest, kept = found_cost, [one for one in kept if one != without]
    return kept
