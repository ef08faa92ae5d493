"""What is known of the machine while the clock runs."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import torch

from eat import machine
from eat.machine import BUSY, ForeignLoad, machine_facts, quiet, versions


def test_other_processes_make_a_machine_busy(monkeypatch: pytest.MonkeyPatch):
    clock = iter([10.0, 20.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(machine.psutil, "cpu_count", lambda: 2)
    whole, own = iter([100.0, 115.0]), iter([5.0, 15.0])
    monkeypatch.setattr(machine, "_busy_seconds", lambda: next(whole))
    monkeypatch.setattr(machine, "_own_seconds", lambda: next(own))
    with ForeignLoad() as foreign:
        pass
    # 15 s of two cores' 2 * 10 s were busy, 10 s of them ours
    assert foreign.share == pytest.approx(0.25)
    assert foreign.share > BUSY


def test_garbage_is_not_collected_while_the_clock_runs():
    with quiet():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_children_are_not_foreign():
    with ForeignLoad() as foreign:
        before = machine._own_seconds()
        subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
        assert machine._own_seconds() > before
    assert 0.0 <= foreign.share <= 1.0


def test_facts_and_versions():
    facts = machine_facts()
    assert facts["cores"] >= 1 and facts["memory_gib"] > 0 and facts["gpu"] is None
    assert versions(["torch", "no-such-package"])["no-such-package"] is None


def test_facts_of_a_gpu_name_card_driver_and_cuda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA T1")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    answer = subprocess.CompletedProcess([], 0, stdout="580.1\n580.1\n", stderr="")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: answer)
    facts = machine_facts("cuda")
    assert (facts["gpu"], facts["driver"], facts["cuda"]) == ("NVIDIA T1", "580.1", "13.0")


def test_a_driver_that_cannot_be_asked_is_unknown(monkeypatch: pytest.MonkeyPatch):
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(machine.subprocess, "run", absent)
    assert machine.driver_version() is None
