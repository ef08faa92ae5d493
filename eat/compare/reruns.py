"""The rules that were rerun between two states, and why, from Snakemake's records of each output."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eat.compare.states import State
from eat.errors import listed

TOUCHED_SECONDS = 0.01
"""A record of a shorter job was recreated for an existing result: this is not a rerun."""

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Rerun:
    """A rule: how many of its jobs ran between the states, how many it has, and the reasons."""

    rule: str
    jobs: int
    of: int
    reasons: tuple[str, ...]


def reruns_between(before: State, after: State) -> list[Rerun]:
    """The rules that were rerun, in the order they began; empty if either state has no records."""
    if not before.records or not after.records:
        return []
    jobs: dict[str, dict[str, Entry]] = {}  # rule -> log (one per job) -> an entry of the job
    reasons: dict[str, dict[str, None]] = {}
    began: dict[str, float] = {}
    every: dict[str, set[str]] = {}
    for output, entry in after.records.items():
        record = entry["record"]
        rule, log = record["rule"], str(record["log"])
        every.setdefault(rule, set()).add(log)
        if not _ran(before.records.get(output), entry):
            continue
        jobs.setdefault(rule, {})[log] = entry
        began[rule] = min(began.get(rule, record["starttime"]), record["starttime"])
        for reason in _reasons(before, after, output):
            reasons.setdefault(rule, {})[reason] = None
    return [
        Rerun(rule, len(jobs[rule]), len(every[rule]), tuple(reasons.get(rule, {"made again": None})))
        for rule in sorted(jobs, key=lambda rule: began[rule])
    ]


def _ran(old: Entry | None, new: Entry) -> bool:
    record = new["record"]
    if old is None:
        return True
    # for a job on a cluster, Snakemake takes the beginning over from the record of the job before
    is_other: bool = old["record"]["starttime"] != record["starttime"] or old["sha256"] != new["sha256"]
    return is_other and bool(record["endtime"] - record["starttime"] > TOUCHED_SECONDS)


def _reasons(before: State, after: State, output: str) -> Iterator[str]:
    """The differences between two jobs that made the same output."""
    if output not in before.records:
        yield "new"
        return
    old, new = before.records[output]["record"], after.records[output]["record"]
    if old["params"] != new["params"]:
        keys = list(dict.fromkeys(_changed_keys(old["params"], new["params"])))
        yield f"parameters ({listed(keys)})" if keys else "parameters"
    if old["code"] != new["code"]:
        yield "the rule's command"
    for path in sorted(set(new["input"]) - set(old["input"])):
        yield f"new input {path}"
    if set(old["input"]) - set(new["input"]):
        yield "fewer inputs"
    for path in sorted(set(new["input"]) & set(old["input"])):
        if _content(before, old, path) != _content(after, new, path):
            yield path


def _changed_keys(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """The keys that differ, if a parameter is a configuration as JSON; Snakemake keeps each as a Python literal."""
    for before, after in zip(old, new, strict=False):
        try:
            first, second = (json.loads(ast.literal_eval(text)) for text in (before, after))
        except (ValueError, SyntaxError, TypeError):
            continue
        yield from _differing(first, second, ())


def _differing(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differing(old.get(key), new.get(key), (*path, str(key)))
    elif old != new and path:
        yield ".".join(path)


def _content(state: State, record: Mapping[str, Any], path: str) -> str | None:
    """The digest of an input when the job ran; for a large one, the digest recorded for it as an output."""
    noted: str | None = (record.get("input_checksums") or {}).get(path)
    if noted is not None:
        return noted.removeprefix("sha256:")
    return state.records[path]["sha256"] if path in state.records else None
