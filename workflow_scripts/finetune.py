"""Fine-tune one stage of a system."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.progress import Progress
from workflow_scripts._command import run


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
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--checkpoints", required=True, type=Path, help="the folder under which checkpoints are kept")
    parser.add_argument("--out", required=True, type=Path, help="the model's folder")
    arguments = parser.parse_args()
    # torch alone may take long to load from a cold disk
    with Progress("loading libraries, model and texts", name=arguments.name):
        finetune(arguments)


def finetune(arguments: argparse.Namespace) -> None:
    """Train with the arguments of the command."""
    import torch

    from eat.finetune.stage import StageInputs, train_stage
    from eat.study.specs.finetune import TrainingSpec
    from workflow_scripts._sources import code_of

    torch.set_num_threads(arguments.threads)
    inputs = StageInputs(
        TrainingSpec.of_json(arguments.spec),
        arguments.parent,
        arguments.train,
        arguments.card,
        arguments.seed,
        arguments.teacher,
        arguments.teacher_model,
        code=code_of("workflow_scripts.finetune"),
    )
    train_stage(inputs, arguments.out, arguments.checkpoints, arguments.name)


if __name__ == "__main__":
    run(main)
