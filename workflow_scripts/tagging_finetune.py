"""Fine-tune a tagger."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.progress import Progress
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the name of this run in progress lines")
    parser.add_argument("--spec", required=True, help="everything that determines the model, as JSON")
    parser.add_argument("--backbone", required=True, type=Path, help="the folder of the backbone")
    parser.add_argument("--train", required=True, type=Path, help="the training sentences")
    parser.add_argument("--card", required=True, type=Path, help="the task's card")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--checkpoints", required=True, type=Path, help="the folder under which checkpoints are kept")
    parser.add_argument("--out", required=True, type=Path, help="the model's folder")
    arguments = parser.parse_args()
    with Progress("loading libraries, model and sentences", name=arguments.name):
        import torch

        from eat.finetune.stage import StageInputs
        from eat.study.specs.finetune import TrainingSpec
        from eat.tagging.finetune import train_tagger
        from workflow_scripts._sources import code_of

        torch.set_num_threads(arguments.threads)
        inputs = StageInputs(
            TrainingSpec.of_json(arguments.spec),
            arguments.backbone,
            [arguments.train],
            arguments.card,
            arguments.seed,
            code=code_of("workflow_scripts.tagging_finetune"),
        )
        train_tagger(inputs, arguments.out, arguments.checkpoints, arguments.name)


if __name__ == "__main__":
    run(main)
