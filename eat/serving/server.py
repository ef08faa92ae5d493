"""The processes of `eat serve`: one, or a parent that watches several workers. Signals end or reload them.

uvicorn serves, and its supervisor restarts a worker that dies. The port is opened once, before the workers start, so
that connections that no worker has taken yet go to another one.
"""

from __future__ import annotations

import contextlib
import functools
import logging.config
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess

from eat.errors import EatError
from eat.serving.app import make_app, worker_app
from eat.serving.logs import log, log_settings
from eat.serving.metrics import FOLDER
from eat.serving.options import ServeOptions
from eat.serving.service import load

BACKLOG = 2048


def serve(options: ServeOptions) -> None:
    """Serve a folder until SIGTERM or SIGINT, then finish what was taken.

    Raises `EatError` if the folder cannot be served or the port cannot be opened, before anything is served.
    """
    loaded = load(options)
    logging.raiseExceptions = False  # a closed pipe must not end a request
    with _listening(options) as opened:
        logging.config.dictConfig(log_settings())
        host, port = opened.getsockname()[:2]
        log("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", workers=options.workers)
        if options.workers == 1:
            # uvicorn raises the signal again after it has ended
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: sys.exit(0))
            config = _config(options, functools.partial(make_app, options, loaded))
            uvicorn.Server(config).run(sockets=[opened])
            return
        del loaded
        with _shared_metrics():
            _Supervisor(_config(options, functools.partial(worker_app, options, os.getpid())), [opened]).run()


class _Supervisor(Multiprocess):
    """uvicorn's supervisor; SIGHUP is passed on, since its own restart would close connections."""

    def handle_hup(self) -> None:
        """Let each worker reload in place."""
        for process in self.processes:
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Restart what died, and forget its gauges."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(pid)  # type: ignore[no-untyped-call]
            log("worker_restarted", logging.WARNING, died=pid)


def _config(options: ServeOptions, app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        factory=True,
        workers=options.workers,
        log_config=log_settings(),
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=round(options.timeout + 1),
        # longer than proxies and clients keep an idle connection, so that none is closed just when it is used
        timeout_keep_alive=75,
        # a worker whose threads keep both cores busy answers late
        timeout_worker_healthcheck=10,
    )


@contextlib.contextmanager
def _listening(options: ServeOptions) -> Iterator[socket.socket]:
    """The open port. Raises `EatError` if it cannot be opened."""
    where = f"{options.host}:{options.port}"
    try:
        family, *_, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise EatError(f"--host: {options.host!r} is no address of this machine ({error}); give one") from None
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(BACKLOG)
        except OSError as error:
            raise EatError(f"{where}: cannot be opened ({error.strerror}); give another --port or --host") from None
        opened.setblocking(False)
        opened.set_inheritable(True)
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder for the counts of the workers."""
    folder = tempfile.mkdtemp(prefix="eat-metrics-")
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER]
        shutil.rmtree(folder, ignore_errors=True)
