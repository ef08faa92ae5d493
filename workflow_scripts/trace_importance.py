"""Correlate each system's score of tokens with gradient saliency, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--task", required=True)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--out", required=True, type=Path, help="the CSV file to write")
    arguments = parser.parse_args()

    import torch

    from eat.files import write_table
    from eat.study.loading import study_of_json
    from eat.study.paths import StudyPaths
    from eat.trace.importance import compare_importance, scoring_systems

    torch.set_num_threads(arguments.threads)
    study = study_of_json(arguments.study)
    paths, task = StudyPaths(study.study), arguments.task
    models = {
        (system, seed): paths.model(study.trained_task(task), trained, seed, stage)
        for system in (study.reference, *scoring_systems(study))
        for seed in study.seeds
        for trained, stage in study.models_of(system)
    }
    assert study.importance_texts is not None
    table = compare_importance(study, task, models, paths.split(task, "dev"), study.importance_texts)
    write_table(arguments.out, table)


if __name__ == "__main__":
    run(main)
