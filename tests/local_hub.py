"""A hub on this machine: what the hub's client asks of it to create a repository, commit files and read them again."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_these_tests"


class LocalHub(ThreadingHTTPServer):
    """repositories: name -> branch -> path -> content. commits: the (repository, branch, message, paths) of each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.commits: list[tuple[str, str, str, list[str]]] = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a client with its own cache."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return kept | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """Run a hub in a thread of this process."""
    with LocalHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def sha_of(files: dict[str, bytes]) -> str:
    """The commit of a state of a branch, 40 hexadecimal digits."""
    content = "".join(f"{name} {hashlib.sha1(files[name]).hexdigest()}\n" for name in sorted(files))
    return hashlib.sha1(content.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "no token"})
            return
        match urlsplit(self.path).path.strip("/").split("/"):
            case ["api", "repos", "create"]:
                given = json.loads(body)
                name = f"{given['organization'] or 'someone'}/{given['name']}"
                is_new = name not in self.server.repositories
                self.server.repositories.setdefault(name, {"main": {}})
                self._answer(200 if is_new else 409, {"url": f"{self.server.endpoint}/{name}", "id": name})
            case ["api", "validate-yaml"]:
                self._answer(200, {"errors": _errors(json.loads(body)["content"]), "warnings": []})
            case ["api", "models", owner, name, "branch", branch]:
                branches = self.server.repositories[f"{owner}/{name}"]
                branches.setdefault(unquote(branch), dict(branches["main"]))
                self._answer(200, {})
            case ["api", "models", _, _, "preupload", _]:
                paths = [file["path"] for file in json.loads(body)["files"]]
                files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                self._answer(200, {"files": files})
            case ["api", "models", owner, name, "commit", branch]:
                self._commit(f"{owner}/{name}", unquote(branch), [json.loads(line) for line in body.splitlines()])
            case _:
                self._answer(404, {"error": self.path})

    def _commit(self, repository: str, branch: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.repositories[repository][branch]
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        files.update(added)
        self.server.commits.append((repository, branch, lines[0]["value"]["summary"], sorted(added)))
        oid = sha_of(files)
        self._answer(200, {"commitUrl": f"{self.server.endpoint}/{repository}/commit/{oid}", "commitOid": oid})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match urlsplit(self.path).path.strip("/").split("/"):
            case [owner, name, "resolve", branch, *path]:
                self._resolve(f"{owner}/{name}", unquote(branch), unquote("/".join(path)))
            case ["api", "models", owner, name] | ["api", "models", owner, name, "revision", _]:
                branches = self.server.repositories.get(f"{owner}/{name}")
                if branches is None:
                    self._answer(404, {"error": "no repository"}, {"X-Error-Code": "RepoNotFound"})
                    return
                files = branches["main"]
                listed = [{"rfilename": path} for path in sorted(files)]
                self._answer(200, {"id": f"{owner}/{name}", "sha": sha_of(files), "siblings": listed, "tags": []})
            case _:
                self._answer(404, {"error": self.path}, {"X-Error-Code": "EntryNotFound"})

    def _resolve(self, repository: str, branch: str, path: str) -> None:
        branches = self.server.repositories.get(repository)
        if branches is None:
            self._answer(404, {"error": "no repository"}, {"X-Error-Code": "RepoNotFound"})
            return
        # a branch or a commit
        states = [files for name, files in branches.items() if branch in (name, sha_of(files))]
        if not states:
            self._answer(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
            return
        about = {"X-Repo-Commit": sha_of(states[0])}
        if path not in states[0]:
            self._answer(404, {"error": "no file"}, about | {"X-Error-Code": "EntryNotFound"})
            return
        content = states[0][path]
        self._send(200, content, about | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _errors(card: str) -> list[dict[str, str]]:
    """What is wrong with the metadata of a card: a mapping in YAML, and each result with its task and metrics."""
    try:
        data = yaml.safe_load(card.split("---\n")[1])
        for model in data.get("model-index", []):
            for result in model["results"]:
                assert result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]
                assert all(metric["type"] and metric["value"] is not None for metric in result["metrics"])
    except (AssertionError, AttributeError, IndexError, KeyError, yaml.YAMLError) as error:
        return [{"message": f"{type(error).__name__}: {error}"}]
    return []
