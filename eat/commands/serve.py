"""`eat serve`: answer texts over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "answer texts over HTTP with an exported model"
DESCRIPTION = (
    "Serve an exported model: JSON in and out at /classify, /health, /ready, /metrics for Prometheus, and a page at /. "
    "SIGHUP loads the folder again, SIGTERM finishes what was taken and ends. Writes structured logs to stdout."
)
EXTRA = "serve"
OWN_SIGNALS = True
"""It ends and reloads on signals by itself, and prints no progress."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; those without a default here have that of the profile."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="an exported model")
    parser.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port (default: 8000; 0: any free one)")
    parser.add_argument(
        "--profile", default="gateway", help="gateway (the default: one text at a time) or triage (batches)"
    )
    parser.add_argument("--workers", type=int, help="processes (default: 1)")
    parser.add_argument(
        "--threads", type=int, help="texts that a process answers at once (default: its cores / workers)"
    )
    parser.add_argument("--batch", type=int, help="most texts that a thread takes at once")
    parser.add_argument("--queue", type=int, help="texts that may wait; more are refused with 429")
    parser.add_argument("--max-texts", type=int, help="texts of a request; more are refused with 422")
    parser.add_argument("--max-tokens", type=int, help="tokens of a request; more are refused with 422")
    parser.add_argument("--max-body", type=int, help="bytes of a request (default: 1048576); more are refused with 413")
    parser.add_argument("--timeout", type=float, help="seconds until a request is refused with 503")
    parser.add_argument(
        "--drain", type=float, help="seconds between SIGTERM and the closing of the port (default: 0.5)"
    )
    parser.add_argument(
        "--monitor", type=int, metavar="N", help="compare the last N texts with the profile of the folder"
    )
    parser.add_argument("--level", type=float, help="the rate of false alarms of a comparison (default: 0.01)")
    parser.add_argument("--fallback", help="full-depth: answer without early exits while the alarm lasts")
    parser.add_argument("--log-texts", action="store_true", help="write the texts into the log")


def run(options: argparse.Namespace) -> None:
    """Serve until a signal."""
    from eat.runtime.classifier import usable_cores
    from eat.serving.options import serve_options

    given = dict(vars(options))
    if given["threads"] is None:
        given["threads"] = max(usable_cores() // max(given["workers"] or 1, 1), 1)
    found = serve_options(given)

    from eat.serving.server import serve

    serve(found)
