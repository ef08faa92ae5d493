"""The parts of a head, by name: what it reads of a text, and its layers before the classifier.

The mean of the tokens costs as little as [CLS] and makes heads after the first layers useful, since [CLS] carries
little information there. PyTorch is imported only within functions, since the names are also needed to read a
configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eat.model.operations import NO_OPERATIONS, Operations

if TYPE_CHECKING:
    from torch import Tensor, nn

    from eat.model.layout import Layout

READER_HIDDEN, READER_HEADS = 128, 2


@dataclass(frozen=True)
class Reader:
    """What a head reads: one vector per text.

    read: hidden states (n, d) of the packed rows, their layout and the reader's layers to (B, width). width, layers,
    operations: of the reader for hidden states of width d; operations are those of its layers for a text.
    """

    read: Callable[[Tensor, Layout, Any], Tensor]
    width: Callable[[int], int] = lambda hidden: hidden
    layers: Callable[[int], nn.ModuleDict | None] = lambda hidden: None
    operations: Callable[[int], Operations] = lambda hidden: NO_OPERATIONS


def _read_all(hidden: Tensor, layout: Layout, _: None) -> Tensor:
    """[CLS], mean and maximum after one another; (n, d) to (B, 3 d)."""
    from torch import cat

    return cat([layout.first(hidden), layout.mean(hidden), layout.max(hidden)], dim=1)


def _attend(hidden: Tensor, layout: Layout, layers: nn.ModuleDict) -> Tensor:
    """FastBERT's reader: linear d -> 128, tanh, self-attention with two heads over the live tokens; then [CLS].

    The attention has an output projection; it is computed only for [CLS].
    """
    from eat.model.attention import DENSE

    qkv = layers["qkv"](layers["narrow"](hidden).tanh())
    vector: Tensor = layers["output"](layout.first(DENSE(qkv, layout, READER_HEADS)))
    return vector


def _attention_layers(hidden: int) -> nn.ModuleDict:
    from torch import nn

    narrow, qkv = nn.Linear(hidden, READER_HIDDEN), nn.Linear(READER_HIDDEN, 3 * READER_HIDDEN)
    return nn.ModuleDict({"narrow": narrow, "qkv": qkv, "output": nn.Linear(READER_HIDDEN, READER_HIDDEN)})


def _attention_operations(hidden: int) -> Operations:
    """The products per token, scores and context per pair, and the product of [CLS] per text."""
    per_token = 2.0 * READER_HIDDEN * (hidden + 3 * READER_HIDDEN)
    return Operations(fixed=2.0 * READER_HIDDEN**2, per_token=per_token, per_pair=4.0 * READER_HIDDEN)


READERS: Mapping[str, Reader] = {
    "cls": Reader(lambda hidden, layout, _: layout.first(hidden)),
    "mean": Reader(lambda hidden, layout, _: layout.mean(hidden)),
    "max": Reader(lambda hidden, layout, _: layout.max(hidden)),
    "cls_mean_max": Reader(_read_all, width=lambda hidden: 3 * hidden),
    "attention": Reader(_attend, lambda hidden: READER_HIDDEN, _attention_layers, _attention_operations),
}
"""Name -> reader."""


@dataclass(frozen=True)
class Kind:
    """The layer of a head before its classifier.

    activation: of that layer; `None` if the classifier is alone. width: of its output; default: that of its input.
    early, last: whether heads before the last layer, and that of the last, can be of this kind.
    """

    activation: Callable[[Tensor], Tensor] | None
    width: int | None = None
    early: bool = True
    last: bool = True


def _gelu(x: Tensor) -> Tensor:
    from torch.nn.functional import gelu

    return gelu(x)


KINDS: Mapping[str, Kind] = {
    "linear": Kind(None),
    "mlp": Kind(lambda x: x.relu(), width=256, last=False),
    "bert": Kind(lambda x: x.tanh()),
    "distilbert": Kind(lambda x: x.relu(), early=False),
    "electra": Kind(_gelu, early=False),
}
"""Name -> kind; bert, the pooler of BERT and RoBERTa, distilbert and electra are those of their stock classifiers."""
