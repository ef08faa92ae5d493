"""Fine-tune one stage of a system."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from eat.finetune.shares import ALONE, Share
from eat.progress import Progress
from eat.study.specs.finetune import TrainingSpec
from workflow_scripts._command import WORKFLOW, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the name of this run in progress lines")
    parser.add_argument("--spec", required=True, help="everything that determines the stage, as JSON")
    parser.add_argument("--parent", required=True, type=Path, help="the folder of the backbone or the parent model")
    parser.add_argument(
        "--train",
        required=True,
        type=Path,
        nargs="+",
        help="the training split, and the unlabelled texts if it uses them",
    )
    parser.add_argument("--card", required=True, type=Path, help="the task's card")
    parser.add_argument(
        "--teacher", type=Path, nargs="+", default=[], help="the teacher's traces of these texts, if the stage distils"
    )
    parser.add_argument("--teacher-model", type=Path, help="the teacher's model, if the stage learns from its layers")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int, help="the threads of all processes together")
    parser.add_argument("--checkpoints", required=True, type=Path, help="the folder under which checkpoints are kept")
    parser.add_argument("--out", required=True, type=Path, help="the model's folder")
    parser.add_argument("--together", type=Path, help="set by this command for the processes that it starts")
    arguments = parser.parse_args()
    spec = TrainingSpec.of_json(arguments.spec)
    gpus = spec.training.gpus
    # torch alone may take long to load from a cold disk
    with Progress("loading libraries, model and texts", name=arguments.name):
        if gpus == 1:
            finetune(arguments, spec)
        elif arguments.together is None:
            launch_processes(arguments, spec)
        else:
            from eat.finetune.launching import one_of_several

            with one_of_several(arguments.together, gpus) as share:
                finetune(arguments, spec, share)


def launch_processes(arguments: argparse.Namespace, spec: TrainingSpec) -> None:
    """Train with as many processes of this command as the stage has GPUs."""
    from eat.finetune.launching import launch

    os.environ[WORKFLOW] = str(os.getpid())  # they end with this process
    gpus = spec.training.gpus
    launch("workflow_scripts.finetune", sys.argv[1:], gpus, spec.training.device, max(arguments.threads // gpus, 1))


def finetune(arguments: argparse.Namespace, spec: TrainingSpec, share: Share = ALONE) -> None:
    """Train with the arguments of the command. share: of this process, if several train together."""
    import torch

    from eat.finetune.stage import StageInputs, train_stage
    from workflow_scripts._sources import code_of

    torch.set_num_threads(max(arguments.threads // spec.training.gpus, 1))
    inputs = StageInputs(
        spec,
        arguments.parent,
        arguments.train,
        arguments.card,
        arguments.seed,
        arguments.teacher,
        arguments.teacher_model,
        code=code_of("workflow_scripts.finetune"),
    )
    train_stage(inputs, arguments.out, arguments.checkpoints, arguments.name, share)


if __name__ == "__main__":
    run(main)
