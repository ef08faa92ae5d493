"""A cascade: several dense systems; each answers the texts for which the previous ones were not certain enough.

It is a baseline without an adaptive model. Its layers are numbered through, and the end of each system is an exit, so
that trace, thresholds and timing treat it as one model. A text that continues starts again at the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eat.errors import EatError, listed
from eat.files import sha256_of
from eat.model.attention import DENSE
from eat.model.batch import PackedBatch
from eat.model.configuration import EatConfig
from eat.model.encoder import EncoderOutput, PackedEncoder, in_order
from eat.model.exit_policy import ExitPolicy
from eat.model.heads import ExitHead
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.options import Parts
from eat.model.reducers.base import Reducer

FULL_DEPTH = ExitPolicy()


class CascadeEncoder(nn.Module):
    """Encoders that answer one after another, with the interface of `PackedEncoder`."""

    def __init__(self, members: Sequence[PackedEncoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.exits = list(accumulate(member.shape.layers for member in members))
        self.shape = replace(members[0].shape, layers=self.exits[-1])
        self.pattern = DENSE
        self.reducer = Reducer()

    def head(self, depth: int) -> ExitHead:
        """The head after a layer: the last head of the member that ends there."""
        member = self.members[self.exits.index(depth)]
        assert isinstance(member, PackedEncoder)
        return member.head(member.exits[-1])

    def forward(self, batch: PackedBatch, policy: ExitPolicy | None = None) -> EncoderOutput:
        """Run the members in turn.

        Without a policy all texts run through all members. With a policy, each exits after the first member whose
        answer the rule accepts.
        """
        last = self.exits[-1]
        rows = list(range(batch.layout.rows))
        output = EncoderOutput(logits=torch.empty(0), depth=[last] * len(rows))
        answers: list[tuple[list[int], Tensor]] = []
        seen: dict[int, Tensor] = {}
        for end, member in zip(self.exits, self.members, strict=True):
            found: EncoderOutput = member(batch, FULL_DEPTH)
            output.work += [replace(work, rows=[rows[row] for row in work.rows]) for work in found.work]
            if policy is None:
                output.exits[end] = found.logits
            if end == last:
                answers.append((rows, found.logits))
            elif policy is not None:
                seen[end] = policy.probabilities(end, found.logits)
                fires = policy.fires(seen).tolist()
                exited = [row for row, fired in enumerate(fires) if fired]
                kept = [row for row, fired in enumerate(fires) if not fired]
                if exited:
                    answers.append(([rows[row] for row in exited], found.logits[exited]))
                    output.record_exit(answers[-1][0], end)
                if not kept:
                    break
                batch, rows = _rows_of(batch, kept), [rows[row] for row in kept]
                seen = {passed: probabilities[kept] for passed, probabilities in seen.items()}
        output.logits = in_order(answers)
        return output


def _rows_of(batch: PackedBatch, kept: list[int]) -> PackedBatch:
    """Some rows of a batch, by the caller's numbers; their order in `kept` becomes the caller's order."""
    number = {row: place for place, row in enumerate(kept)}
    packed = [place for place, row in enumerate(batch.rows) if row in number]
    layout, tokens = batch.layout.keep_rows(packed)
    ids, types = batch.ids.index_select(0, tokens), batch.types.index_select(0, tokens)
    return PackedBatch(ids, types, layout, [number[batch.rows[place]] for place in packed])


@dataclass
class Cascade:
    """A cascade with a model's interface for tracing and timing: encoder, and a configuration of labels and parts."""

    encoder: CascadeEncoder
    config: EatConfig
    members: list[PackedEncoder]

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.encoder.parameters()).device


def load_system(folders: Sequence[Path], parts: Parts) -> EatForSequenceClassification | Cascade:
    """A system of a study: a trained model, run with these parts, or a cascade of several.

    Raises `EatError` if the models of a cascade do not match, and as `load_model` does.
    """
    if len(folders) == 1:
        return load_model(folders[0], parts)
    widths = parts.member_widths or [1.0] * len(folders)
    models = [load_model(folder, Parts(width=width)) for folder, width in zip(folders, widths, strict=True)]
    _require_alike(folders, models)
    encoder = CascadeEncoder([model.encoder for model in models])
    config = models[-1].config
    config.shape = {**config.shape, "layers": encoder.shape.layers}
    config.exits = encoder.exits
    if sorted({*parts.exits, encoder.exits[-1]}) != encoder.exits:
        raise EatError(
            f"a cascade of {listed([member.shape.layers for member in (model.encoder for model in models)])} layers "
            f"has exits after [{listed(parts.exits)}], but its systems end after [{listed(encoder.exits)}]"
        )
    return Cascade(encoder, config, [model.encoder for model in models])


def _require_alike(folders: Sequence[Path], models: Sequence[EatForSequenceClassification]) -> None:
    """Refuse models that differ in width, classes or tokenizer."""
    first, *others = zip(folders, models, strict=True)

    def facts(folder: Path, model: EatForSequenceClassification) -> dict[str, Any]:
        shape = model.encoder.shape
        return {
            "width": shape.hidden,
            "labels": list(model.config.id2label.values()),
            "tokenizer": sha256_of(folder / "tokenizer.json"),
        }

    expected = facts(*first)
    for folder, model in others:
        different = [key for key, value in facts(folder, model).items() if value != expected[key]]
        if different:
            raise EatError(f"{folder} and {first[0]} differ in their {listed(different)}; a cascade needs them equal")
