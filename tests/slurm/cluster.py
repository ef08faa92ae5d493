"""A real Slurm on this one machine, for the tests: a controller and two nodes that share its cores.

`python tests/slurm/cluster.py up` starts it, `down` stops it; the tests call `start` and `stop`. It needs root on
Linux, and installs Slurm by `apt-get` where it is missing. Node `cpu01` is partition `cpu`; node `gpu01` is partition
`gpu`, with one pretend GPU. There is no accounting and no cgroup, so memory and cores are booked but not enforced. It
listens on loopback alone. A Slurm that is up already is used as it is, and never stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(tempfile.gettempdir()) / "eat-slurm"
"""Key, configuration, state, logs and pid files; removed by `stop`."""

ETC = Path("/etc/slurm")
"""Where Slurm looks by itself. The executor plugin drops SLURM_CONF from its job steps, so no other place will do."""

FILES = ("slurm.conf", "gres.conf")
NODES = ("cpu01", "gpu01")
PARTITIONS = {"cpu", "gpu"}
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol", "scancel", "srun")

SLURM_CONF = """ClusterName=eat
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
# neither cgroups nor binding to cores: a container allows neither
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
GresTypes=gpu
# no database: what becomes of a job is asked of squeue, which must remember it for a while
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=3600
ReturnToService=2
KillWait=5
# each node may claim what it says, though both are the same machine
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs={cpus} RealMemory={memory} State=UNKNOWN
NodeName=cpu01 NodeHostname={host} NodeAddr=127.0.0.1 Port=26901
NodeName=gpu01 NodeHostname={host} NodeAddr=127.0.0.1 Port=26902 Gres=gpu:1
PartitionName=cpu Nodes=cpu01 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=gpu01 MaxTime=INFINITE State=UP
"""

CLAIMED_MEMORY = 16000
"""MB that each node claims, enough for the profile's largest job; the tests' own jobs take far less."""


class Unavailable(Exception):
    """Why there can be no Slurm here."""


def start() -> bool:
    """Have a Slurm with the partitions `cpu` and `gpu`. Returns whether it was started here, and is to be stopped."""
    if answers():
        found = {name.rstrip("*") for name in _output("sinfo", "--noheader", "--format=%P").split()}
        if found >= PARTITIONS:
            return False
        raise Unavailable(f"the Slurm of this machine has the partitions {sorted(found)}, not cpu and gpu")
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise Unavailable("starting a Slurm takes root on Linux, and none is running")
    stop()  # what an earlier start left
    foreign = [str(ETC / name) for name in FILES if (ETC / name).exists() or (ETC / name).is_symlink()]
    if foreign:
        raise Unavailable(f"a Slurm that does not answer is configured in {', '.join(foreign)}")
    _install()
    try:
        _configure()
        _launch()
    except (OSError, subprocess.SubprocessError) as error:
        said = _tail("start.log")
        stop()
        raise Unavailable(f"Slurm does not start here: {error}; {said}") from error
    if not _wait(60.0, lambda: _output("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle", "idle"]):
        said = _tail("slurmctld.log")
        stop()
        raise Unavailable(f"the nodes do not become idle; {said}")
    return True


def stop() -> None:
    """Stop what `start` started, by the ids in its pid files, and remove its files; nothing else is touched."""
    ours = [ETC / name for name in FILES if (ETC / name).is_symlink() and os.readlink(ETC / name) == str(ROOT / name)]
    if ours and answers():
        jobs = _output("squeue", "--noheader", "--format=%A").split()
        if jobs:
            subprocess.run(["scancel", *jobs], capture_output=True, check=False)
            _wait(20.0, lambda: not _output("squeue", "--noheader"))
    for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"):
        _end(ROOT / "run" / f"{name}.pid", program=name.split("-", maxsplit=1)[0])
    for link in ours:
        link.unlink()
    shutil.rmtree(ROOT, ignore_errors=True)


def answers() -> bool:
    """Whether a Slurm controller answers."""
    return "is UP" in _output("scontrol", "ping")


def _output(*command: str) -> str:
    """What a command prints; nothing where it is missing or fails."""
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _tail(name: str) -> str:
    """The end of a log, on one line."""
    log = ROOT / "log" / name
    return " ".join(log.read_text(encoding="utf-8", errors="replace")[-500:].split()) if log.is_file() else ""


def _install() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{', '.join(missing)} not found, and no apt-get to install slurm-wlm and munge")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
        if done.returncode != 0:
            raise Unavailable(f"{' '.join(command)} failed: {' '.join(done.stderr.split()[-30:])}")


def _configure() -> None:
    """Write key and configuration, and link the configuration to where Slurm looks."""
    for folder in ("run", "log", "state", *(f"spool-{node}" for node in NODES)):
        (ROOT / folder).mkdir(parents=True)
    ROOT.chmod(0o755)  # munge refuses a folder that others could write
    key = ROOT / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    host = socket.gethostname().split(".", maxsplit=1)[0]
    values = {"host": host, "root": ROOT, "cpus": os.cpu_count(), "memory": CLAIMED_MEMORY}
    (ROOT / "slurm.conf").write_text(SLURM_CONF.format(**values), encoding="utf-8")
    # a GPU is a device file to Slurm; a second /dev/null will do, as nothing opens it
    device = ROOT / "run" / "pretend0"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    gres = f"NodeName=gpu01 Name=gpu Flags=nvidia_gpu_env File={device}\n"
    (ROOT / "gres.conf").write_text(gres, encoding="utf-8")
    ETC.mkdir(exist_ok=True)
    for name in FILES:
        (ETC / name).symlink_to(ROOT / name)


def _launch() -> None:
    """Start the four daemons; each goes into the background by itself."""
    munge = {
        "--key-file": ROOT / "munge.key",
        "--socket": ROOT / "run" / "munge.socket",
        "--pid-file": ROOT / "run" / "munged.pid",
        "--log-file": ROOT / "log" / "munged.log",
        "--seed-file": ROOT / "munge.seed",
    }
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
    munged = ["munged", "--force", *(f"{option}={path}" for option, path in munge.items())]
    for command in (munged, ["slurmctld", "-c"], *(["slurmd", "-N", node] for node in NODES)):
        with (ROOT / "log" / "start.log").open("ab") as log:  # a pipe would stay open as long as the daemon lives
            subprocess.run(command, stdout=log, stderr=log, check=True, env=environment, timeout=60)


def _end(pid_file: Path, program: str) -> None:
    """End the daemon that a pid file names, if it still is that program."""
    try:
        process = psutil.Process(int(pid_file.read_text(encoding="utf-8")))
        if process.name() != program:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except psutil.TimeoutExpired:
            process.kill()
    except (OSError, ValueError, psutil.NoSuchProcess):
        return


def _wait(seconds: float, condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.3)
    return False


def main() -> None:
    """The command line."""
    action = sys.argv[1] if len(sys.argv) == 2 else ""
    if action == "up":
        try:
            print("started" if start() else "a Slurm is up already")
        except Unavailable as reason:
            sys.exit(str(reason))
    elif action == "down":
        stop()
    else:
        sys.exit("usage: python tests/slurm/cluster.py up | down")


if __name__ == "__main__":
    main()
