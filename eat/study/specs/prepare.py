"""The entries of the configuration from which texts and backbones are prepared."""

from __future__ import annotations

from pydantic import TypeAdapter

from eat.study.backbones import Backbone
from eat.study.specs.spec import parsed
from eat.study.tasks import Task


def task_of_json(name: str, text: str) -> Task:
    """The entry of a task. Raises `EatError` as `parsed` does."""
    return parsed(TypeAdapter(Task), text, "--spec", ("tasks", name))


def backbone_of_json(name: str, text: str) -> Backbone:
    """The entry of a backbone. Raises `EatError` as `parsed` does."""
    return parsed(TypeAdapter(Backbone), text, "--spec", ("backbones", name))
