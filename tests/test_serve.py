"""`eat serve`: its answers, limits, metrics and logs, what signals do to a real process, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
from browser import CHROMIUM, browser
from exported import exported

from eat.cli import main
from eat.errors import EatError
from eat.monitor.observations import is_log, read_log
from eat.monitor.profile import learn_profile
from eat.runtime import AdaptiveClassifier
from eat.runtime.manifest import MANIFEST, MODEL, PROFILE
from eat.serving.options import PROFILES, ServeOptions, serve_options

httpx = pytest.importorskip("httpx2", reason="httpx2 is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

ROOT = Path(__file__).resolve().parent.parent
REDUCER = {"kind": "norm", "after": [1, 3], "ratio": 0.3}
POINT = {"rule": ["confidence"], "tau": 0.7, "temperatures": {1: 1.3, 2: 0.7, 4: 2.0}}
TEXTS = [row["text"] for row in tiny.table(300).to_dict("records")]
LONG = [" ".join([text] * 3) for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with early exits and removal, and its profile."""
    at = tmp_path_factory.mktemp("served")
    exported(at, point=POINT, exits=[1, 2], reducer=REDUCER)
    learn_profile(at / "out", TEXTS, resamples=100)
    return at / "out"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the export, to change."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@contextmanager
def client(folder: Path, **options: Any) -> Iterator[Any]:
    """A client of an application in this process."""
    from starlette.testclient import TestClient

    from eat.serving.app import make_app

    with TestClient(make_app(serve_options({"folder": folder, "timeout": 20.0, **options}))) as made:
        yield made


def ask(client: Any, texts: Any, **more: Any) -> Any:
    return client.post("/classify", json={"texts": texts, **more})


def metric(client: Any, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    [value] = [line.split()[-1] for line in lines if line.split()[0] == name]
    return float(value)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_answers_are_those_of_the_runner(folder: Path, profile: str) -> None:
    expected = AdaptiveClassifier.load(folder)(TEXTS[:16])
    with client(folder, profile=profile) as at:
        response = ask(at, TEXTS[:16])
    assert response.status_code == 200
    for answer, known in zip(response.json()["answers"], expected, strict=True):
        assert set(answer) == {"label", "probability", "probabilities", "depth", "exit_reason"}
        assert (answer["label"], answer["depth"], answer["exit_reason"]) == (
            known.label,
            known.depth,
            known.exit_reason,
        )
        assert answer["probabilities"] == pytest.approx(dict(known.probabilities))


def test_pairs_are_lists_of_two(folder: Path) -> None:
    [expected] = AdaptiveClassifier.load(folder)([("word1 good1", "word2")])
    with client(folder) as at:
        response = ask(at, [["word1 good1", "word2"]])
    assert response.json()["answers"][0]["probability"] == pytest.approx(expected.probability)


@pytest.fixture(scope="module")
def deep(folder: Path) -> str:
    """A text that loses tokens, since it runs beyond the first layer."""
    answers = AdaptiveClassifier.load(folder)(TEXTS)
    return next(text for text, answer in zip(TEXTS, answers, strict=True) if answer.depth > 1)


def test_an_explanation_names_tokens_and_those_kept(folder: Path, deep: str) -> None:
    with client(folder) as at:
        [answer] = ask(at, [deep], explain=True).json()["answers"]
    assert answer["layers"] == 4
    assert answer["tokens"][0] == "[CLS]"
    assert answer["kept"][0] == 0
    assert set(answer["kept"]) <= set(range(len(answer["tokens"])))
    assert len(answer["kept"]) < len(answer["tokens"])


REFUSED: dict[str, tuple[Any, int, str]] = {
    "not JSON": (b"{texts", 400, "not JSON"),
    "not UTF-8": (b'{"texts": ["\xff"]}', 400, "not JSON"),
    "nested too deeply": (b"[" * 100_000, 400, "nested"),
    "no texts": ({"text": "a"}, 422, "no key `texts`"),
    "another key": ({"texts": ["a"], "model": "b"}, 422, "unknown key 'model'"),
    "a list as the body": (["a"], 422, "no key `texts`"),
    "empty list": ({"texts": []}, 422, "empty one"),
    "a single text": ({"texts": "a"}, 422, "no list"),
    "a number": ({"texts": [1]}, 422, "give a str"),
    "an empty text": ({"texts": ["a", " "]}, 422, "is empty"),
    "three parts": ({"texts": [["a", "b", "c"]]}, 422, "Text 0"),
    "half of a surrogate pair": (b'{"texts": ["\\ud800"]}', 422, "surrogate"),
    "explain": ({"texts": ["a"], "explain": 1}, 422, "`explain`"),
    "too many texts": ({"texts": ["a"] * 5}, 422, "more than 4"),
    "too many tokens": ({"texts": ["word1 " * 300]}, 422, "more than 200"),
    "too many bytes": ({"texts": ["a" * 5000]}, 413, "more than 4096 bytes"),
}


def test_each_limit_has_its_status_and_a_sentence(folder: Path) -> None:
    with client(folder, max_texts=4, max_tokens=200, max_body=4096) as at:
        for name, (body, status, part) in REFUSED.items():
            if name == "nested too deeply":
                continue
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            response = at.post("/classify", content=content)
            assert response.status_code == status, name
            assert part in response.json()["error"], name
            assert "\n" not in response.json()["error"]
        assert metric(at, 'eat_requests_total{status="413"}') == 1
        assert ask(at, ["word1"]).status_code == 200
        assert at.get("/nothing").status_code == 404
        assert at.get("/classify").status_code == 405
    with client(folder) as at:
        body, status, part = REFUSED["nested too deeply"]
        response = at.post("/classify", content=body)
        assert (response.status_code, part in response.json()["error"]) == (status, True)


def test_a_body_without_a_stated_length_is_cut_off(folder: Path) -> None:
    with client(folder, max_body=1000) as at:
        response = at.post("/classify", content=iter([b"x" * 600, b"x" * 600]))
    assert response.status_code == 413


class Slow:
    """Holds back the model until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        before = AdaptiveClassifier.trace

        def trace(model: AdaptiveClassifier, *arguments: Any) -> Any:
            assert self.go.wait(20)
            return before(model, *arguments)

        monkeypatch.setattr(AdaptiveClassifier, "trace", trace)


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


def test_a_full_queue_sheds_and_recovers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with client(folder, queue=3, max_texts=3) as at, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, at, TEXTS[:3])
        until(lambda: metric(at, "eat_queue_texts") == 3)
        refused = ask(at, ["word1"])
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        slow.go.set()
        assert first.result().status_code == 200
        assert metric(at, "eat_queue_texts") == 0
        assert ask(at, ["word1"]).status_code == 200


def test_a_late_answer_is_503_and_its_texts_are_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with client(folder, timeout=0.2, threads=1) as at:
        response = ask(at, TEXTS[:3])
        assert response.status_code == 503
        assert "0.2 seconds" in response.json()["error"]
        slow.go.set()
        until(lambda: metric(at, "eat_queue_texts") == 0)
        assert ask(at, ["word1"]).status_code == 200


def test_a_server_that_ends_is_not_ready(folder: Path) -> None:
    with client(folder) as at:
        assert at.get("/health").status_code == at.get("/ready").status_code == 200
        at.app.state.service.draining = True
        assert at.get("/health").status_code == 200
        assert at.get("/ready").status_code == 503
        response = ask(at, ["word1"])
        assert (response.status_code, response.headers["connection"]) == (503, "close")


def test_a_model_that_answers_nan_is_500(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace(*_: Any) -> None:
        raise EatError("NaN")

    monkeypatch.setattr(AdaptiveClassifier, "trace", trace)
    with client(folder) as at:
        response = ask(at, ["word1"])
        assert response.status_code == 500
        assert "NaN" not in response.text
        assert metric(at, "eat_queue_texts") == 0


def test_the_metrics_count_what_was_answered(folder: Path) -> None:
    with client(folder) as at:
        answers = ask(at, TEXTS[:10]).json()["answers"]
        assert metric(at, 'eat_requests_total{status="200"}') == 1
        assert metric(at, "eat_request_seconds_count") == 1
        assert metric(at, "eat_depth_layers_sum") == sum(answer["depth"] for answer in answers)
        early = sum(answer["exit_reason"] == "confidence" for answer in answers)
        assert metric(at, 'eat_exits_total{reason="confidence"}') == early
        assert metric(at, "eat_confidence_count") == metric(at, "eat_retention_ratio_count") == 10
        assert metric(at, "eat_monitor_alarm") == metric(at, "eat_full_depth") == 0


@pytest.mark.parametrize("log_texts", [False, True])
def test_the_log_has_the_answers_and_the_texts_only_if_asked_for(
    folder: Path, log_texts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "eat.serving"), client(folder, log_texts=log_texts) as at:
        ask(at, ["word1 gooda"])
        ask(at, [["gooda", "word1", "word2"]])
    events = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    good, bad = [event for event in events if event["event"] == "request"]
    assert good["answers"][0]["depth"] in (1, 2, 4)
    assert bad["status"] == 422
    assert ("gooda" in json.dumps([good, bad])) == log_texts


def test_the_fallback_answers_at_full_depth_until_the_window_is_quiet(folder: Path) -> None:
    with client(folder, profile="triage", monitor=50, fallback="full-depth", batch=1) as at:
        for start in range(0, 100, 50):
            ask(at, LONG[start : start + 50])
        assert metric(at, "eat_monitor_alarm") == metric(at, "eat_full_depth") == 1
        answers = ask(at, TEXTS[:50]).json()["answers"]
        assert {answer["depth"] for answer in answers} == {4}
        for start in range(50, 250, 50):
            ask(at, TEXTS[start : start + 50])
        assert metric(at, "eat_monitor_alarm") == metric(at, "eat_full_depth") == 0
        assert min(answer["depth"] for answer in ask(at, TEXTS[:50]).json()["answers"]) < 4


def test_a_reload_takes_the_new_folder_and_keeps_the_old_one_if_it_is_damaged(copy: Path) -> None:
    with client(copy) as at:
        service = at.app.state.service
        before = ask(at, ["word1 gooda"]).json()
        content = (copy / MODEL).read_bytes()
        (copy / MODEL).write_bytes(content[:-1])
        assert at.portal.call(service.reload) is False
        assert ask(at, ["word1 gooda"]).json() == before
        (copy / MODEL).write_bytes(content)
        manifest = json.loads((copy / MANIFEST).read_text())
        (copy / MANIFEST).write_text(json.dumps({**manifest, "labels": ["no", "yes"]}))
        assert at.portal.call(service.reload) is True
        assert ask(at, ["word1 gooda"]).json()["answers"][0]["label"] in ("no", "yes")
        assert metric(at, 'eat_reloads_total{result="failed"}') == metric(at, 'eat_reloads_total{result="loaded"}') == 1


class Server:
    """A real process of `eat serve`."""

    def __init__(self, folder: Path, log: Path, *options: str) -> None:
        self.log = log
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eat.cli", "serve", str(folder), "--port", "0", "--timeout", "10", *options],
                cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        listening = until(lambda: [event for event in self.events() if event["event"] == "listening"])
        self.client = httpx.Client(base_url=listening[0]["url"], timeout=20)

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def started(self) -> list[int]:
        """The process ids of the workers that have started."""
        return [event["process"] for event in self.events() if event["event"] == "started"]

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(folder: Path, log: Path, *options: str) -> Iterator[Server]:
    server = Server(folder, log, *options)
    try:
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@contextmanager
def traffic(url: str, clients: int = 3) -> Iterator[list[int]]:
    """Requests without a pause; yields the statuses, with 0 for an error of the connection."""
    over = threading.Event()
    statuses: list[int] = []

    def send() -> None:
        with httpx.Client(base_url=url, timeout=20) as own:
            while not over.is_set():
                try:
                    statuses.append(ask(own, TEXTS[:2]).status_code)
                except httpx.TransportError:
                    statuses.append(0)

    with ThreadPoolExecutor(clients) as pool:
        for _ in range(clients):
            pool.submit(send)
        try:
            yield statuses
        finally:
            over.set()


def test_signals_reload_and_end_a_process_without_a_failed_request(copy: Path, tmp_path: Path) -> None:
    with serving(copy, tmp_path / "log") as server:
        with traffic(str(server.client.base_url)) as statuses:
            until(lambda: len(statuses) > 20)
            content = (copy / MODEL).read_bytes()
            for damaged, result in ((b"", "failed"), (content, "loaded")):
                (copy / MODEL).write_bytes(damaged)
                server.process.send_signal(signal.SIGHUP)
                until(lambda result=result: [e for e in server.events() if e.get("result") == result])
            seen = len(statuses)
            until(lambda: len(statuses) > seen + 20)
        assert set(statuses) == {200}
        # a request of many texts is taken, and answered after the signal
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(ask, server.client, TEXTS[:16])
            until(lambda: last.done() or last.running())
            assert last.result().status_code == 200
        assert server.end() == 0
    assert is_log(tmp_path / "log")
    found, full_depth = read_log(tmp_path / "log")
    assert len(found) == 2 * len(statuses) + 16
    assert not full_depth
    assert server.events()[-1]["event"] == "ended"


def test_a_request_that_was_taken_is_answered_after_sigterm(folder: Path, tmp_path: Path) -> None:
    options = ["--profile", "triage", "--threads", "1", "--drain", "0.2"]
    with serving(folder, tmp_path / "log", *options) as server, ThreadPoolExecutor(1) as pool:
        taken = pool.submit(ask, server.client, TEXTS * 3)
        with httpx.Client(base_url=server.client.base_url) as other:
            until(lambda: taken.done() or metric(other, "eat_queue_texts") == 900)
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < ServeOptions(folder, timeout=10.0, drain=0.2).ends_within
        assert taken.result().status_code == 200
        assert len(taken.result().json()["answers"]) == 900


def test_a_killed_worker_loses_no_request_without_an_error(folder: Path, tmp_path: Path) -> None:
    with serving(folder, tmp_path / "log", "--workers", "2", "--threads", "1") as server:
        first, second = until(lambda: len(server.started()) == 2 and server.started())
        with traffic(str(server.client.base_url), clients=4) as statuses:
            until(lambda: len(statuses) > 20)
            os.kill(first, signal.SIGKILL)
            until(lambda: len(server.started()) == 3)
            seen = len(statuses)
            until(lambda: len(statuses) > seen + 20)
        # every request has an answer or an error, and few have an error: what the killed worker held
        assert set(statuses) <= {200, 0}
        assert statuses.count(0) <= 4
        assert set(statuses[-10:]) == {200}
        assert metric(server.client, 'eat_requests_total{status="200"}') >= statuses.count(200)
        # the reload reaches the other worker and the new one, and closes no connection
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len([e for e in server.events() if e.get("result") == "loaded"]) == 2)
        assert second in server.started()
        assert server.end() == 0


def test_a_server_imports_neither_torch_nor_transformers_nor_pandas(folder: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom starlette.testclient import TestClient\n"
        "from eat.serving.app import make_app\nimport eat.serving.server\n"
        "from eat.serving.options import serve_options\n"
        "options = serve_options({'folder': Path(sys.argv[1]), 'profile': 'triage', 'monitor': 50})\n"
        "with TestClient(make_app(options)) as client:\n"
        "    assert client.post('/classify', json={'texts': ['word1'] * 60}).status_code == 200\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'pydantic', 'onnx') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


FAULTS: dict[str, tuple[list[str], str]] = {
    "no folder": (["{none}"], "no manifest.json"),
    "damaged model": (["{damaged}"], "has 3 bytes"),
    "not exported": (["{model}"], "a model that is not exported (config.json, but no manifest.json)"),
    "manifest cut off": (["{cut}"], "manifest.json: not a whole JSON file"),
    "unknown profile": (["{out}", "--profile", "fast"], "--profile: found 'fast'"),
    "workers 0": (["{out}", "--workers", "0"], "--workers: found 0"),
    "threads 0": (["{out}", "--threads", "0"], "--threads: found 0"),
    "batch 0": (["{out}", "--batch", "0"], "--batch: found 0"),
    "queue 0": (["{out}", "--queue", "0"], "--queue: found 0"),
    "max texts -1": (["{out}", "--max-texts", "-1"], "--max-texts: found -1"),
    "max tokens 0": (["{out}", "--max-tokens", "0"], "--max-tokens: found 0"),
    "max body 0": (["{out}", "--max-body", "0"], "--max-body: found 0"),
    "queue below a request": (["{out}", "--queue", "4"], "the queue holds 4 texts"),
    "timeout 0": (["{out}", "--timeout", "0"], "--timeout: found 0"),
    "timeout no number": (["{out}", "--timeout", "soon"], "invalid float value"),
    "timeout nan": (["{out}", "--timeout", "nan"], "--timeout: found nan"),
    "port too large": (["{out}", "--port", "70000"], "--port: found 70000"),
    "port in use": (["{out}", "--port", "{port}"], "cannot be opened"),
    "unknown host": (["{out}", "--host", "a..b"], "is no address"),
    "window too small": (["{out}", "--monitor", "10"], "--monitor: found 10"),
    "monitor without a profile": (["{bare}", "--monitor", "100"], "has no profile.json"),
    "fallback without a monitor": (["{out}", "--fallback", "full-depth"], "give --monitor N"),
    "unknown fallback": (["{out}", "--monitor", "100", "--fallback", "dense"], "--fallback: found 'dense'"),
    "fallback without thresholds": (["{rule}", "--monitor", "100", "--fallback", "full-depth"], "has no threshold"),
    "level 1": (["{out}", "--monitor", "100", "--level", "1"], "--level: found 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_input_is_one_line(
    fault: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places: dict[str, Any] = {"none": tmp_path / "none", "out": folder}
    for name in ("damaged", "bare", "rule", "cut"):
        places[name] = shutil.copytree(folder, tmp_path / name)
    (tmp_path / "damaged" / MODEL).write_bytes(b"abc")
    (tmp_path / "bare" / PROFILE).unlink()
    (tmp_path / "cut" / MANIFEST).write_text("{")
    places["model"] = tmp_path / "model"
    places["model"].mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    manifest = json.loads((folder / MANIFEST).read_text())
    (tmp_path / "rule" / MANIFEST).write_text(json.dumps({**manifest, "has_thresholds": False}))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as ended:
        arguments, message = FAULTS[fault]
        places["port"] = taken.getsockname()[1]
        main(["serve", *[argument.format(**places) for argument in arguments]])
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("command", "missing"), [("serve", "uvicorn"), ("serve", "starlette"), ("monitor", "scipy")])
def test_without_the_extra_one_line_names_it(
    command: str, missing: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in [name for name in sys.modules if name.startswith((f"{missing}.", "eat.serving"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, f"{missing}.stats", None)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:60]))
    with pytest.raises(SystemExit) as ended:
        main([command, str(folder), *(["--window", str(tmp_path / "texts.txt")] if command == "monitor" else [])])
    assert ended.value.code == 1
    message = f'error: eat {command} needs the extra serve: pip install "eat-study[serve]"\n'
    assert capsys.readouterr().err == message


def test_the_profile_sets_what_is_not_given(folder: Path) -> None:
    from eat.serving.service import load

    found = serve_options({"folder": folder, "profile": "triage", "batch": 32, "queue": None})
    assert (found.batch, found.queue) == (32, PROFILES["triage"]["queue"])
    assert load(found).monitor is None


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_shows_where_a_text_exits(folder: Path, deep: str, tmp_path: Path) -> None:
    with serving(folder, tmp_path / "log") as server, browser() as tab:
        url = str(server.client.base_url).rstrip("/")
        tab.call("Page.navigate", url=f"{url}/?text={deep.replace(' ', '+')}")
        until(lambda: tab.value("document.getElementById('result')?.hidden") is False)
        [answer] = ask(server.client, [deep], explain=True).json()["answers"]
        assert tab.value("document.querySelectorAll('#layers li.run').length") == answer["depth"]
        assert tab.value("document.querySelectorAll('#layers li').length") == 4
        removed = len(answer["tokens"]) - len(answer["kept"])
        assert removed > 0
        assert tab.value("document.querySelectorAll('#tokens .removed').length") == removed
        assert tab.value("document.getElementById('label').textContent") == answer["label"]
        tab.value(
            "(document.getElementById('text').value = ' '.repeat(3), document.getElementById('form').noValidate = true)"
        )
        tab.value("document.getElementById('form').requestSubmit()")
        until(lambda: not tab.value("document.getElementById('error').hidden"))
        assert "empty" in tab.value("document.getElementById('error').textContent")
        assert all(asked.startswith(url) for asked in tab.requests)
