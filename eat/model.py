"""The packed encoder as a Hugging Face model: save, load, `AutoModel`, `pipeline("text-classification")`.

`EatForSequenceClassification` takes padded batches as every tokenizer makes them, packs them, and runs the one forward
pass of `eat.encoder`. Its operating point, the rule and threshold by which it leaves early, is part of its
configuration and can be changed at any time with `set_operating_point`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from eat.attention import AttentionPattern
from eat.encoder import EncoderOutput, PackedBatch, PackedEncoder, Shape, shortest_first
from eat.errors import DamagedFile, EatError, listed
from eat.exits import ExitHead, ExitPolicy
from eat.layout import Layout
from eat.reducers import Dimensions, build_reducer
from eat.weights import load_encoder, read_checkpoint


class EatConfig(PretrainedConfig):  # type: ignore[misc]
    """The architecture and the parts of an adaptive encoder.

    shape: the fields of `eat.encoder.Shape`. reducer, attention: rows of the configuration. exits: the layers with a
    head. read: what heads read. head, last_head: what the heads are, and the last. operating_point: rule, tau,
    temperatures and patience. trained: on which device and in which precision the weights were trained, if they were.
    """

    model_type = "eat"

    def __init__(
        self,
        shape: Mapping[str, Any] | None = None,
        reducer: Mapping[str, Any] | None = None,
        attention: Mapping[str, Any] | None = None,
        exits: Sequence[int] = (),
        read: str = "cls",
        last_head: str = "linear",
        head: str = "linear",
        operating_point: Mapping[str, Any] | None = None,
        trained: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.shape = asdict(Shape(**(shape or {})))
        self.reducer = dict(reducer or {"kind": "none"})
        self.attention = dict(attention or {"kind": "dense"})
        self.exits = sorted({*exits, self.shape["layers"]})
        self.read = read
        self.last_head = last_head
        self.head = head
        self.operating_point = dict(operating_point or {})
        self.trained = dict(trained or {})
        kwargs.setdefault("num_labels", self.shape["classes"])
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """d, under the name that other libraries look for."""
        return int(self.shape["hidden"])

    @property
    def num_hidden_layers(self) -> int:
        """L, under the name that other libraries look for."""
        return int(self.shape["layers"])


@dataclass
class EatOutput(ModelOutput):  # type: ignore[misc]
    """loss: cross-entropy of the answers, where labels were given. logits: (B, C). depth: layers executed (B,)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    depth: Tensor | None = None


class EatForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """A text classifier that removes tokens and leaves early."""

    config_class = EatConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: EatConfig) -> None:
        super().__init__(config)
        shape = Shape(**config.shape)
        beyond = [depth for depth in (*config.exits, *config.reducer.get("after", [])) if depth > shape.layers]
        if beyond:
            raise EatError(f"an exit or a removal after layer {listed(beyond)} of a model with {shape.layers} layers")
        heads = {
            depth: ExitHead(
                shape.hidden,
                shape.classes,
                config.last_head if depth == shape.layers else config.head,
                # the heads of stock classes read [CLS]
                "cls" if depth == shape.layers and config.last_head != "linear" else config.read,
                shape.head_dropout,
            )
            for depth in config.exits
        }
        options = config.attention
        pattern = AttentionPattern(options.get("left", 0), options.get("right", 0), options["kind"] == "window")
        reducer = build_reducer(config.reducer, Dimensions(shape.hidden, shape.layers, shape.heads))
        self.encoder = PackedEncoder(shape, pattern, reducer, heads)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    @property
    def policy(self) -> ExitPolicy:
        """The operating point as the engine takes it."""
        point = self.config.operating_point
        temperatures = {int(depth): float(value) for depth, value in point.get("temperatures", {}).items()}
        return ExitPolicy(tuple(point.get("rule", ())), point.get("tau"), temperatures, point.get("patience", 1))

    def set_operating_point(
        self,
        rule: Sequence[str],
        tau: float | None = None,
        temperatures: Mapping[int, float] | None = None,
        patience: int = 1,
    ) -> None:
        """Choose when the model leaves early; saved with it. An empty rule runs every text through all layers."""
        texts = {str(depth): value for depth, value in (temperatures or {}).items()}
        self.config.operating_point = {"rule": list(rule), "tau": tau, "temperatures": texts, "patience": patience}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> EatOutput:
        """Classify a padded batch: ids, mask (1 where a token is) and segments, int64 (B, T); labels int64 (B,).

        In evaluation mode texts leave at the model's operating point.
        """
        output = self.encoder(
            pack_padded(input_ids, attention_mask, token_type_ids), None if self.training else self.policy
        )
        logits = output.exits[self.config.num_hidden_layers] if self.training else output.logits
        if not torch.isfinite(logits).all():
            raise EatError("the model's logits are NaN or infinite, which is no answer; its weights are damaged")
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return EatOutput(loss=loss, logits=logits, depth=torch.tensor(output.depth, device=logits.device))

    @property
    def members(self) -> list[PackedEncoder]:
        """The encoders it consists of: this one, where a cascade has several."""
        return [self.encoder]

    def run(self, batch: PackedBatch, policy: ExitPolicy | None = None) -> EncoderOutput:
        """The forward pass on a packed batch; see `eat.encoder.PackedEncoder.forward`."""
        output: EncoderOutput = self.encoder(batch, policy)
        return output


def load_model(folder: Path | str, parts: Mapping[str, Any] | None = None) -> EatForSequenceClassification:
    """A model that a study trained, in evaluation mode, from its folder.

    parts: reducer, attention or exits to run it with, in place of those it was trained with (`Study.parts`).
    As `from_pretrained`, but never from a pickled file, and nothing is filled in at random. Raises `EatError` where
    the folder holds another architecture, `DamagedFile` where a file is missing, broken, or lacks a weight.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint.stock_head is not None:
        raise EatError(f"{folder}: a {checkpoint.stock_head} checkpoint, not a model that a study trained; train first")
    config = EatConfig.from_pretrained(folder)
    for part in ("reducer", "attention", "exits"):
        if parts is not None and part in parts:
            setattr(config, part, parts[part])
    config.exits = sorted({*config.exits, config.num_hidden_layers})
    model = EatForSequenceClassification(config)
    absent = load_encoder(model.encoder, checkpoint, range(1, checkpoint.shape.layers + 1))
    if absent:
        raise DamagedFile(f"{Path(folder) / 'model.safetensors'}: lacks {listed(absent[:3])}; train again")
    model.eval()
    return model


def pack_padded(ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> PackedBatch:
    """A padded batch, int64 (B, T), as a packed one. Cells with mask 0 are left out; a row must have a token."""
    types = torch.zeros_like(ids) if types is None else types
    if mask is None:
        return PackedBatch(ids.flatten(), types.flatten(), Layout([ids.shape[1]] * ids.shape[0], ids.device))
    live = mask.bool()
    lengths = live.sum(dim=1).tolist()
    if not lengths or 0 in lengths:
        raise EatError(
            f"a batch of {len(lengths)} rows with {listed(lengths)} tokens; every row needs at least one token"
        )
    order = shortest_first(lengths)
    rows = torch.tensor(order, device=ids.device)
    ids, types, live = (padded.index_select(0, rows) for padded in (ids, types, live))
    return PackedBatch(ids[live], types[live], Layout([lengths[row] for row in order], ids.device), order)


AutoConfig.register("eat", EatConfig, exist_ok=True)
AutoModelForSequenceClassification.register(EatConfig, EatForSequenceClassification, exist_ok=True)
