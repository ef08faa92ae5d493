"""Starts the processes that train one stage together, by `accelerate launch`, and says why they failed.

The first process prints its progress lines as a single one would; the others print nothing. A process that fails writes
the reason into a file of a folder that all know, from which one line is made. If a signal ends the job, or the job is
killed, every process gets SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eat.errors import EatError
from eat.files import read_json, write_json
from eat.finetune.shares import Share
from eat.interrupts import Ended
from eat.progress import Elsewhere


def launch(module: str, arguments: Sequence[str], processes: int, device: str, threads: int) -> None:
    """Run a module as several processes with these arguments and `--together FOLDER`, and wait until all have ended.

    device: cuda, with a GPU for each process, or cpu. threads: of each process. The environment is that of this
    process; `accelerate` reads no configuration of the user. Raises `EatError` with the reason if a process failed,
    and `Ended` if a signal ended this one.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    _require_gpus(processes, device)
    with tempfile.TemporaryDirectory() as name, Elsewhere("training"):
        folder = Path(name)
        options = _options(folder, processes, threads)
        given = launch_command_parser().parse_args([*options, "--module", module, *arguments, "--together", name])
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # several lines on each process that ends
        try:
            launch_command(given)
        except SignalException as end:
            raise Ended(int(end.sigval)) from None
        except ChildFailedError as error:
            raise EatError(_reason(folder, {rank: each.exitcode for rank, each in error.failures.items()})) from None
        finally:
            logging.disable(disabled)


def _require_gpus(processes: int, device: str) -> None:
    import torch

    if device == "cuda" and torch.cuda.device_count() < processes:
        raise EatError(
            f"training.gpus is {processes}, but torch finds {torch.cuda.device_count()} here; set it to at most that, "
            "or ask the cluster for more"
        )


def _options(folder: Path, processes: int, threads: int) -> list[str]:
    """The options of `accelerate launch`. A file of ours stands in the place of the user's default configuration."""
    configuration = folder / "accelerate.json"
    write_json(
        configuration,
        {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU",
            "num_processes": processes,
            "num_machines": 1,
            "machine_rank": 0,
            "mixed_precision": "no",
            "use_cpu": False,
        },
    )
    options = {
        "config_file": configuration,
        "num_processes": processes,
        "num_machines": 1,
        "machine_rank": 0,
        "gpu_ids": "all",
        "mixed_precision": "no",
        "dynamo_backend": "no",
        "main_process_port": 0,  # a free one
        "num_cpu_threads_per_process": threads,
        "max_restarts": 0,
    }
    # --multi_gpu starts several processes, on a CPU as well; --cpu would start one
    return ["--multi_gpu", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]


def _reason(folder: Path, statuses: dict[int, int]) -> str:
    """Why processes failed: the first failure that one of them wrote, or the signal that killed one."""
    signals = {rank: -status for rank, status in statuses.items() if status < 0 and -status != signal.SIGTERM}
    found = sorted((read_json(path) for path in folder.glob("failed-*.json")), key=lambda each: float(each["time"]))
    known = [each for each in found if each["known"]]
    if known:
        return str(known[0]["text"])
    if signals:
        rank, number = min(signals.items())
        return (
            f"training process {rank + 1} was killed by {signal.Signals(number).name}, perhaps for lack of memory; "
            "run the same command again: it resumes from the newest checkpoint"
        )
    if found:
        return str(found[0]["text"])
    rank = min(statuses)
    return f"training process {rank + 1} ended with exit status {statuses[rank]}; run the same command again"


@contextmanager
def one_of_several(folder: Path, processes: int) -> Iterator[Share]:
    """In a process that `launch` has started: give its share to the block, and write down why the block failed.

    Call it before torch is imported, since each process sees only its own GPU.
    """
    share = Share(int(os.environ["RANK"]), processes)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = seen.split(",") if seen else [str(number) for number in range(processes)]
    if len(gpus) >= processes:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[share.rank]
    os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # the warnings of those that lose a process
    if not share.leads:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
    try:
        yield share
    except Ended as end:
        _end(128 + end.number)
    except Exception as error:
        known = isinstance(error, EatError)
        text = str(error) if known else "".join(traceback.format_exception(error)).rstrip()
        write_json(folder / f"failed-{share.rank}.json", {"known": known, "text": text, "time": time.time()})
        _end(1)


def _end(status: int) -> None:
    """End this process at once: threads that wait for the other processes are not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
