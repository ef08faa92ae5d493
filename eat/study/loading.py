"""Reading a study: from YAML, from Snakemake's configuration, or from the JSON that a rule passes to its command."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from eat.errors import EatError
from eat.study.messages import joined, lines_of
from eat.study.specs.spec import parsed
from eat.study.study import A_VIEW, Study

if TYPE_CHECKING:
    from eat.study.tagging import TaggingStudy

_Item = TypeVar("_Item")
_Kind = TypeVar("_Kind", "Study", "TaggingStudy")


class _PlainLoader(yaml.SafeLoader):
    """A loader of plain values without duplicate keys, of which YAML would silently use the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} appears twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def load_study(source: Path | str | Mapping[str, Any]) -> Study:
    """Read a study from a YAML file or a dictionary.

    Raises `EatError` with one line per wrong key: what was found and what is allowed.
    """
    if isinstance(source, Mapping):
        return validated(Study, dict(source), "configuration")
    return validated(Study, read_mapping(source), str(source))


def study_of_json(text: str) -> Study:
    """The study that a rule passes to its command. Raises `EatError` as `load_study` does."""
    return parsed(TypeAdapter(Study), text, "--study", context=A_VIEW)


def read_mapping(path: Path | str) -> dict[str, Any]:
    """The keys of a YAML file, not yet validated.

    Raises `EatError` if it cannot be read, is not UTF-8, is not plain YAML (no tags but those of plain values, no
    key twice), or contains no mapping.
    """
    try:
        value = _PlainLoader(Path(path).read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise EatError(f"{path}: the configuration file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EatError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last two: `!!int x`, and [[[[ without end
        raise EatError(f"{path}: not plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise EatError(f"{path}: contains {type(value).__name__}, not a mapping of keys; see config/config.yaml")
    return value


def validated(model: type[_Kind], value: dict[str, Any], origin: str) -> _Kind:
    """A study of either kind from the keys of its configuration; errors as of `load_study`, after the origin."""
    try:
        study = model.model_validate(value)
    except ValidationError as error:
        lines = lines_of(error, model.model_json_schema(by_alias=True))
        raise EatError("\n".join(f"{origin}: {line}" for line in lines)) from None
    for key, truth in _truth_values(value, ()):
        # Python would treat it as 0 or 1
        raise EatError(f"{origin}: {joined(key)}: found {truth}; no key has a truth value (in YAML yes, no, on, off)")
    return study


def _truth_values(value: Any, key: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Every truth value within a validated configuration, with its key."""
    if isinstance(value, bool):
        yield key, value
    elif isinstance(value, Mapping):
        for name, below in value.items():
            yield from _truth_values(below, (*key, name))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _truth_values(below, (*key, index))
