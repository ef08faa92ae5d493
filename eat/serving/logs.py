"""Structured logs: one JSON object per line on standard output, with an `event`. Texts are in it only if asked for."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

LOGGER = "eat.serving"


class JsonLines(logging.Formatter):
    """An event of the server, or a line of uvicorn as the event `server`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about = record.msg if isinstance(record.msg, dict) else {"event": "server", "text": record.getMessage()}
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "process": os.getpid(), **about}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_settings() -> dict[str, Any]:
    """The settings of `logging.config.dictConfig`: all on standard output; of uvicorn only what matters."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": "eat.serving.logs.JsonLines"}},
        "handlers": {
            "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "lines"},
        },
        "loggers": {
            LOGGER: {"handlers": ["out"], "level": "INFO", "propagate": False},
            "uvicorn": {"handlers": ["out"], "level": "WARNING", "propagate": False},
        },
    }


def log(event: str, level: int = logging.INFO, **about: Any) -> None:
    """Write an event."""
    logging.getLogger(LOGGER).log(level, {"event": event, **about})


def log_error(event: str, **about: Any) -> None:
    """Write an event with the traceback of the exception that is being handled."""
    logging.getLogger(LOGGER).error({"event": event, **about}, exc_info=True)
