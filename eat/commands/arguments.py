"""What the arguments of several commands share."""

from __future__ import annotations

import argparse
import dataclasses
from typing import NoReturn, TypeVar

from eat.errors import EatError

Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """A parser that raises `EatError`."""

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print with its usage."""
        raise EatError(f"{message}; see {self.prog} --help")


def options_from(options: type[Options], given: argparse.Namespace) -> Options:
    """The options of a command from the arguments of the same names; the others keep their defaults."""
    names = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    return options(**{name: value for name, value in vars(given).items() if name in names})


def quiet_libraries() -> None:
    """Switch off the progress bars and advice of `transformers`."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
