"""Python processes that answer requests as lines of JSON, for work that must not share a process with the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import eat
from eat.errors import EatError


class Worker:
    """A module of this package run as a process of its own (`python -m`), until `close`.

    Its stdin ends when this process ends, for any reason, and then it ends too.
    """

    def __init__(self, module: str) -> None:
        root = str(Path(eat.__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # an interrupt from the terminal is for the process that started it
        )

    def ask(self, do: str, **request: Any) -> Any:
        """The answer to a request. Raises `EatError` if the worker raised one, and if the process has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            raise EatError(f"{self.module} ended with status {status} at {do!r}; it may have run out of memory")
        answer = json.loads(line)
        if "mistake" in answer:
            raise EatError(answer["mistake"])
        if "fault" in answer:
            raise RuntimeError(f"{self.module}:\n{answer['fault']}")
        return answer["answer"]

    def kill(self) -> None:
        """End the process without waiting for its answer."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def serve(handlers: dict[str, Callable[..., Any]]) -> None:
    """The worker's side: answer requests from stdin with the handler that each names, until stdin ends."""
    answers = _own_stdout()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(outcome(partial(handlers[request.pop("do")], **request))) + "\n")
        answers.flush()


def outcome(work: Callable[[], Any]) -> dict[str, Any]:
    """The result of `work`, or its error, as JSON."""
    try:
        return {"answer": work()}
    except EatError as error:
        return {"mistake": str(error)}
    except Exception:
        return {"fault": traceback.format_exc()}


def _own_stdout() -> TextIO:
    """The real stdout, only for answers; anything that a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers
