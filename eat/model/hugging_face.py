"""The packed encoder as a Hugging Face model: save, load, `AutoModel`, `pipeline("text-classification")`.

`EatForSequenceClassification` takes padded batches from any tokenizer, packs them, and runs the forward pass
of `eat.model.encoder`. Its operating point, the rule and threshold by which texts exit early, is part of its
configuration and can be changed at any time with `set_operating_point`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import ModelOutput

from eat.errors import DamagedFile, EatError, listed
from eat.model.attention import AttentionPattern
from eat.model.batch import PackedBatch, shortest_first
from eat.model.configuration import EatConfig
from eat.model.encoder import EncoderOutput, PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.heads import ExitHead
from eat.model.hub_card import keep_card
from eat.model.layout import Layout
from eat.model.options import Parts
from eat.model.reducers.base import Dimensions
from eat.model.reducers.registry import build_reducer
from eat.model.shape import Shape
from eat.model.weights import load_encoder, read_checkpoint
from eat.model.widths import narrowed

BESIDE = ("length", "num_truncated_tokens", "offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask")
"""What a tokenizer gives beside the inputs if it is asked for; no answer depends on it, and stock models ignore it."""


@dataclass
class EatOutput(ModelOutput):  # type: ignore[misc]
    """loss: cross-entropy of the answers, if labels are given. logits: (B, C). depth: layers executed (B,)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    depth: Tensor | None = None


class EatForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """A text classifier that removes tokens and exits early."""

    config_class = EatConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    _supports_sdpa = True
    """Attention is that of `torch.nn.functional.scaled_dot_product_attention`, whatever `attn_implementation` says."""
    accepts_loss_kwargs = True
    """`forward` takes `num_items_in_batch`, so that accumulated gradients are those of one large batch."""

    def __init__(self, config: EatConfig) -> None:
        super().__init__(config)
        _require_single_label(config)
        # `num_labels` may override that of a saved model
        shape = replace(Shape(**config.shape), classes=config.num_labels)
        config.shape = asdict(shape)
        self.num_labels = config.num_labels
        after = (*config.exits, *config.reducer.get("after", []))
        beyond = [depth for depth in after if not 1 <= depth <= shape.layers]
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
        if options.get("kind") not in ("dense", "window"):
            raise EatError(f"attention: found the kind {options.get('kind')!r}; allowed: dense, window")
        pattern = AttentionPattern(options.get("left", 0), options.get("right", 0), options["kind"] == "window")
        reducer = build_reducer(config.reducer, Dimensions(shape.hidden, shape.layers, shape.heads))
        self.encoder = PackedEncoder(shape, pattern, reducer, heads)
        _ = self.policy  # a saved operating point is checked here
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
        """The operating point as an `ExitPolicy`. Raises `EatError` if the configuration's is not allowed."""
        return ExitPolicy.of(self.config.operating_point, self.config.exits, self.config.num_labels)

    def set_operating_point(
        self,
        rule: Sequence[str],
        tau: float | Mapping[int, float | Sequence[float]] | None = None,
        temperatures: Mapping[int, float] | None = None,
        patience: int = 1,
    ) -> None:
        """Choose when texts exit early; saved with the model. An empty rule runs every text through all layers.

        rule: names from `eat.model.exit_rules.RULES`, which must all hold. tau: the threshold in (0, 1], if a rule has
        one; or by layer, as one number or one for each class of the answer. temperatures: layer -> temperature of its
        head; 1 if none is given. patience: of the rules `agreement` and `margin`.
        Raises `EatError`, without a change, if a value is not allowed or the model lacks the exits for it.
        """
        point = {"rule": rule, "tau": tau, "temperatures": temperatures, "patience": patience}
        self.config.operating_point = ExitPolicy.of(point, self.config.exits, self.config.num_labels).as_point()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        embedding: nn.Module = self.encoder.embeddings.token
        return embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding; its rows are the vocabulary."""
        self.encoder.embeddings.token = value
        self.encoder.shape = replace(self.encoder.shape, vocabulary=value.num_embeddings)
        self.config.vocab_size = value.num_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> EatOutput | tuple[Tensor, ...]:
        """Classify a padded batch: ids, mask (1 for tokens) and segments, int64 (B, T); labels int64 (B,).

        In evaluation mode texts exit at the model's operating point. num_items_in_batch: the number of labels
        by which the loss is divided, if a batch is a part of a step; default: those of this batch. return_dict: False
        returns a tuple. Raises `EatError` for inputs that only a stock model supports, such as `inputs_embeds`, and for
        labels that are not one class per text.
        """
        given = {name: value for name, value in others.items() if name not in BESIDE}
        unknown = [name for name, value in given.items() if value is not None and value is not False]
        if unknown or input_ids is None:
            raise EatError(
                f"found {listed(unknown or ['no input_ids'])}; the model takes input_ids, attention_mask, "
                "token_type_ids and labels, and gives loss, logits and depth"
            )
        batch = pack_padded(input_ids, attention_mask, token_type_ids)
        try:
            output = self.encoder(batch, None if self.training else self.policy)
        except IndexError:
            _require_embedded(batch, self.encoder.shape)
            raise
        logits = output.exits[self.config.num_hidden_layers] if self.training else output.logits
        if not torch.isfinite(logits).all():
            raise EatError("the model's logits are NaN or infinite, so there is no answer; its weights are damaged")
        loss = None if labels is None else _cross_entropy(logits, labels, num_items_in_batch)
        found = EatOutput(loss=loss, logits=logits, depth=torch.tensor(output.depth, device=logits.device))
        return found if (self.config.return_dict if return_dict is None else return_dict) else found.to_tuple()

    def _upload_modified_files(self, working_dir: str, *given: Any, **options: Any) -> Any:
        """The last step of `push_to_hub`: upload what it has written, with the model's own card."""
        if self.name_or_path:
            keep_card(Path(self.name_or_path), Path(working_dir))
        return super()._upload_modified_files(working_dir, *given, **options)

    @property
    def members(self) -> list[PackedEncoder]:
        """The encoders it consists of: this one; a cascade has several."""
        return [self.encoder]

    def run(self, batch: PackedBatch, policy: ExitPolicy | None = None) -> EncoderOutput:
        """The forward pass on a packed batch; see `eat.model.encoder.PackedEncoder.forward`."""
        output: EncoderOutput = self.encoder(batch, policy)
        return output


def load_model(folder: Path | str, parts: Parts | None = None) -> EatForSequenceClassification:
    """Load a model that a study trained, in evaluation mode.

    parts: reducer, attention and exits that replace those of the training, and the width.
    Like `from_pretrained`, but never from a pickled file and without random weights. Raises `EatError` if the folder
    contains another architecture, `DamagedFile` if a file is missing, broken, or lacks a weight.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint.stock_head is not None:
        raise EatError(f"{folder}: a {checkpoint.stock_head} checkpoint, not a model that a study trained; train first")
    config = EatConfig.from_pretrained(folder)
    if config.num_labels != checkpoint.shape.classes:
        raise EatError(
            f"{folder}: config.json names {config.num_labels} labels (id2label) of a model with "
            f"{checkpoint.shape.classes} classes; name every class"
        )
    if parts is not None:
        config.reducer, config.exits = parts.reducer.plain(), parts.exits
        if parts.attention is not None:
            config.attention = parts.attention.plain()
        config.operating_point = {}  # it may refer to exits that these parts do not have
        checkpoint = narrowed(checkpoint, parts.width)
        config.shape = asdict(checkpoint.shape)
    config.exits = sorted({*config.exits, config.num_hidden_layers})
    model = EatForSequenceClassification(config)
    absent = load_encoder(model.encoder, checkpoint, range(1, checkpoint.shape.layers + 1))
    if absent:
        raise DamagedFile(f"{Path(folder) / 'model.safetensors'}: lacks {listed(absent[:3])}; train again")
    model.eval()
    return model


def pack_padded(ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> PackedBatch:
    """Pack a padded batch, int64 (B, T). Cells with mask 0 are dropped; each row must have a token."""
    types = torch.zeros_like(ids) if types is None else types
    shapes = [tuple(given.shape) for given in (ids, mask, types) if given is not None]
    if len(shapes[0]) != 2 or len(set(shapes)) > 1:
        raise EatError(f"input_ids, mask and segments: found the shapes {listed(shapes)}; give each (texts, tokens)")
    lengths = [ids.shape[1]] * len(ids) if mask is None else mask.bool().sum(dim=1).tolist()
    if not lengths or 0 in lengths:
        raise EatError(
            f"a batch of {len(lengths)} rows with {listed(lengths)} tokens; every row needs at least one token"
        )
    if mask is None:
        return PackedBatch(ids.flatten(), types.flatten(), Layout(lengths, ids.device))
    live = mask.bool()
    order = shortest_first(lengths)
    rows = torch.tensor(order, device=ids.device)
    ids, types, live = (padded.index_select(0, rows) for padded in (ids, types, live))
    return PackedBatch(ids[live], types[live], Layout([lengths[row] for row in order], ids.device), order)


def _cross_entropy(logits: Tensor, labels: Tensor, items: Tensor | int | None) -> Tensor:
    """The cross-entropy of logits (B, C) and classes (B,): the mean, or the sum divided by `items`."""
    if labels.is_floating_point() or labels.numel() != len(logits):
        raise EatError(
            f"labels: found {labels.dtype} of shape {tuple(labels.shape)}; give one class per text, int64 "
            f"({len(logits)},); regression and several labels per text are not supported"
        )
    loss = nn.functional.cross_entropy(logits, labels.flatten().long(), reduction="mean" if items is None else "sum")
    return loss if items is None else loss / items


def _require_single_label(config: EatConfig) -> None:
    """Refuse options of a stock classifier's configuration that this model does not support."""
    if config.problem_type not in (None, "single_label_classification") or config.num_labels < 2:
        raise EatError(
            f"found problem_type {config.problem_type!r} and {config.num_labels} labels; the model chooses one of two "
            "or more classes (single_label_classification)"
        )
    if config.output_hidden_states or config.output_attentions:
        raise EatError("output_hidden_states, output_attentions: removed tokens and rows have none; leave them out")


def _require_embedded(batch: PackedBatch, shape: Shape) -> None:
    """Refuse a batch with a token or a segment beyond its embedding."""
    for what, values, rows in (("token", batch.ids, shape.vocabulary), ("segment", batch.types, shape.token_types)):
        lowest, highest = int(values.min()), int(values.max())
        if rows and not 0 <= lowest <= highest < rows:
            raise EatError(
                f"found the {what} {lowest if lowest < 0 else highest}, but the model embeds 0 to {rows - 1}; use the "
                "tokenizer of the model, or resize_token_embeddings for more tokens"
            )


AutoModelForSequenceClassification.register(EatConfig, EatForSequenceClassification, exist_ok=True)
