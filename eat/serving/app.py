"""The routes: /classify, /health, /ready, /metrics, and the page at /."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from eat.monitor.observations import REQUEST
from eat.runtime.classifier import Text
from eat.serving.logs import log, log_error
from eat.serving.metrics import CONTENT_TYPE
from eat.serving.options import ServeOptions
from eat.serving.refusals import Refused, body_too_large, not_json, too_late, wrong_form
from eat.serving.service import Answered, Loaded, Service, load

PAGE = Path(__file__).with_name("page")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}

KEYS = {"texts", "explain"}

RETRY_SECONDS = 5.0
"""Between attempts of a restarted worker to load a folder that is damaged."""


def make_app(options: ServeOptions, loaded: Loaded | None = None) -> Starlette:
    """The application. loaded: the model; default: it is loaded when the application starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service = Service(options, loaded or load(options))
        app.state.service = service
        gc.freeze()  # what is loaded stays, and is not searched at each collection
        log("started", folder=str(options.folder), profile=options.profile, threads=options.threads)
        with _signals(service):
            yield
        service.pool.close()
        log("ended")

    routes = [
        Route("/classify", _classify, methods=["POST"]),
        Route("/health", _health),
        Route("/ready", _ready),
        Route("/metrics", _metrics),
        *[
            Route(path, _file(name, kind))
            for path, name, kind in (
                ("/", "index.html", "text/html"),
                ("/page.css", "page.css", "text/css"),
                ("/page.js", "page.js", "text/javascript"),
            )
        ],
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})


def worker_app(options: ServeOptions, parent: int) -> Starlette:
    """The application of a worker process, which loads the folder before it takes requests.

    A worker that replaces a dead one waits while the folder is damaged. It ends if its parent process does.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing was taken yet, so it may end at once
    while True:
        try:
            loaded = load(options)
            break
        except Exception as error:
            log("not_started", 40, error=" ".join(str(error).split()), again_in_seconds=RETRY_SECONDS)
            time.sleep(RETRY_SECONDS)
    signal.signal(signal.SIGTERM, before)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    return make_app(options, loaded)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _signals(service: Service) -> Iterator[None]:
    """SIGHUP reloads; SIGTERM and SIGINT refuse new requests for `drain` seconds before the server closes its port."""
    if threading.current_thread() is not threading.main_thread():  # a test client
        yield
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    closes: dict[int, Any] = {}

    def drain(number: int, frame: FrameType | None) -> None:
        if not service.draining:
            service.draining = True
            loop.call_soon_threadsafe(loop.call_later, service.options.drain, closes[signal.SIGTERM], number, None)
        elif number == signal.SIGINT and service.interrupted:
            closes[number](number, frame)  # a second Ctrl-C does not wait for what was taken
        # after Ctrl-C the parent process sends SIGTERM too, which changes nothing
        service.interrupted = service.interrupted or number == signal.SIGINT

    loop.add_signal_handler(signal.SIGHUP, reload)
    for number in (signal.SIGTERM, signal.SIGINT):
        closes[number] = signal.signal(number, drain)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # one that comes late must not end the process
        for closed, handler in closes.items():
            signal.signal(closed, handler)


async def _classify(request: Request) -> Response:
    service: Service = request.app.state.service
    options = service.options
    began = time.perf_counter()
    about: dict[str, Any] = {}
    headers: dict[str, str] = {}
    try:
        service.require_room()
        async with asyncio.timeout(options.timeout):
            texts, explain = _parsed(await _body(request, options.max_body), options.max_texts)
            about["texts"] = len(texts)
            answered = await service.classify(texts)
        status, content = 200, _content(answered, explain)
        about |= _logged(answered, texts if options.log_texts else None)
    except TimeoutError:
        status, content, headers = _refusal(too_late(options.timeout))
    except Refused as refused:
        status, content, headers = _refusal(refused)
    except ClientDisconnect:
        status, content = 408, {"error": "The client closed the connection before it had sent the whole body."}
    except Exception:
        log_error("failed", path="/classify")
        status, content = 500, {"error": "The server failed on this request; its log says why."}
    if service.draining:
        headers["Connection"] = "close"
    seconds = time.perf_counter() - began
    service.metrics.answered(status, seconds)
    log(
        REQUEST,
        status=status,
        ms=round(1000 * seconds, 2),
        **about,
        **_reason(status, content, options.log_texts),
    )
    return JSONResponse(content, status, headers)


def _reason(status: int, content: dict[str, Any], log_texts: bool) -> dict[str, Any]:
    """What the log says of a refusal; the sentence of a 422 may quote a text."""
    if status == 200 or (status == 422 and not log_texts):
        return {}
    return {"error": content["error"]}


def _refusal(refused: Refused) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {"Retry-After": str(refused.retry)} if refused.retry else {}
    return refused.status, {"error": refused.sentence}, headers


async def _body(request: Request, limit: int) -> bytes:
    """The body. Raises `Refused` as soon as it is known to be too large."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise body_too_large(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise body_too_large(limit)
    return bytes(body)


def _parsed(body: bytes, limit: int) -> tuple[list[Text], bool]:
    """The texts of a body, pairs as tuples, and whether an explanation is asked for. Raises `Refused`."""
    try:
        content = json.loads(body)
    except RecursionError:
        raise not_json("it is nested too deeply") from None
    except ValueError as error:
        raise not_json(str(error)) from None
    if not isinstance(content, dict) or "texts" not in content:
        raise wrong_form("The body has no key `texts`")
    unknown = sorted(set(content) - KEYS)
    if unknown:
        raise wrong_form(f"The body has the unknown key {unknown[0][:40]!r}")
    texts, explain = content["texts"], content.get("explain", False)
    if not isinstance(texts, list) or not texts:
        raise wrong_form("`texts` is no list, or an empty one")
    if not isinstance(explain, bool):
        raise wrong_form("`explain` is neither true nor false")
    if len(texts) > limit:
        raise Refused(422, f"The request has {len(texts)} texts, more than {limit}; send them in several requests.")
    return [tuple(text) if isinstance(text, list) else text for text in texts], explain


def _content(answered: Answered, explain: bool) -> dict[str, Any]:
    answers = []
    for trace, pieces in zip(answered.traces, answered.pieces, strict=True):
        answer = trace.answer
        entry: dict[str, Any] = {
            "label": answer.label,
            "probability": answer.probability,
            "probabilities": dict(answer.probabilities),
            "depth": answer.depth,
            "exit_reason": answer.exit_reason,
        }
        if explain:
            entry |= {"layers": answered.layers, "tokens": pieces, "kept": list(trace.kept)}
        answers.append(entry)
    return {"answers": answers}


def _logged(answered: Answered, texts: list[Text] | None) -> dict[str, Any]:
    answers: list[dict[str, Any]] = [
        {
            "label": trace.answer.label,
            "confidence": round(trace.answer.probability, 6),
            "depth": trace.answer.depth,
            "exit_reason": trace.answer.exit_reason,
            "retention": round(trace.retention, 4),
            "tokens": trace.tokens,
        }
        for trace in answered.traces
    ]
    if texts is not None:
        for answer, text in zip(answers, texts, strict=True):
            answer["text"] = text
    return {"full_depth": answered.full_depth, "answers": answers}


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "running"})


async def _ready(request: Request) -> Response:
    if request.app.state.service.draining:
        return JSONResponse({"status": "the server is about to end"}, 503)
    return JSONResponse({"status": "ready"})


async def _metrics(request: Request) -> Response:
    return Response(request.app.state.service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _file(name: str, kind: str) -> Any:
    async def answer(request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=kind, headers=PAGE_HEADERS)

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = {
        404: "There is no such page; POST to /classify, or GET /, /health, /ready or /metrics.",
        405: "This method is not allowed here; POST to /classify, and GET the other pages.",
    }.get(error.status_code, str(error.detail))
    return JSONResponse({"error": sentence}, error.status_code, error.headers)
