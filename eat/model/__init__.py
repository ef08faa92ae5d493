"""The parts of a model. Importing the package registers the architecture with Transformers once that is imported.

No module of the package is imported here, since this file is a source of every rule that uses one of them.
"""

import importlib
from typing import Any

import wrapt

# by name, so that the forward pass does not become a source of rules that only need a tokenizer; and as soon as each
# part of Transformers is imported, since Transformers imports its parts lazily


@wrapt.when_imported("transformers.models.auto.configuration_auto")  # type: ignore[untyped-decorator]
def _register_configuration(_: Any) -> None:
    importlib.import_module("eat.model.configuration")


@wrapt.when_imported("transformers.models.auto.modeling_auto")  # type: ignore[untyped-decorator]
def _register_model(_: Any) -> None:
    importlib.import_module("eat.model.hugging_face")


def __getattr__(name: str) -> Any:
    modules = {
        "EatConfig": "configuration",
        "EatForSequenceClassification": "hugging_face",
        "load_model": "hugging_face",
    }
    if name in modules:
        return getattr(importlib.import_module(f"eat.model.{modules[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
