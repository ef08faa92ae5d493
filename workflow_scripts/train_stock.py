"""Train the stock `transformers` classifier on a study's text, for comparison with the reference system.

It is not part of the study: nothing else reads its result. The same pretrained weights, texts, batch size, learning
rate, epochs and seed as the reference system, but the stock model on padded batches with the stock `Trainer` and its
loss.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--task", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file for the result, which is also printed")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    result = train_stock(arguments.config, arguments.task)
    print(" ".join(f"{key}={value}" for key, value in result.items()))
    if arguments.out:
        from eat.files import write_json

        write_json(arguments.out, result)


def train_stock(config: Path, task: str) -> dict[str, Any]:
    """Train and evaluate; returns accuracy on dev, its count, and training tokens per second (without padding)."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from eat.engines.devices import resolve_device
    from eat.errors import EatError, listed
    from eat.files import read_json
    from eat.finetune.run_log import CountedSteps
    from eat.model.tokenizer import copy_tokenizer, read_split
    from eat.progress import Progress
    from eat.study.loading import load_study
    from eat.study.paths import StudyPaths

    study = load_study(config)
    if task not in study.tasks:
        raise EatError(f"task {task!r} is not in {config}; known: {listed(study.tasks)}")
    paths = StudyPaths(study.study)
    system = study.systems[study.reference]
    stage = study.stage_names(study.reference)[-1]
    spec = study.training_spec(task, study.reference, stage)
    seed = study.seeds[0]
    set_seed(seed)
    folder = paths.results / "stock" / task
    copy_tokenizer(paths.backbone(system.backbone), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = read_json(paths.card(task))["labels"]
    model = AutoModelForSequenceClassification.from_pretrained(
        paths.backbone(system.backbone), num_labels=len(labels), use_safetensors=True
    )

    def examples(split: str) -> list[dict[str, Any]]:
        table = read_split(paths.split(task, split))
        second = list(table["text_b"]) if "text_b" in table.columns else None
        encoded = tokenizer(list(table["text"]), second, truncation=True, max_length=spec.max_length)
        rows = [{key: encoded[key][row] for key in encoded} for row in range(len(table))]
        return [row | {"labels": int(label)} for row, label in zip(rows, table["label"], strict=True)]

    train, dev = examples("train"), examples("dev")
    training = spec.training
    epochs = spec.stage.epochs
    steps = -(-len(train) // training.batch_size) * epochs
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=training.batch_size,
            per_device_eval_batch_size=32,
            num_train_epochs=epochs,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            warmup_steps=round(steps * training.warmup),
            max_grad_norm=training.max_grad_norm,
            optim="adamw_torch_fused",
            use_cpu=resolve_device(training.device, "training.device").type == "cpu",
            seed=seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=train,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    began = time.perf_counter()
    with Progress("step", int(steps), name=task) as progress:
        trainer.add_callback(CountedSteps(progress))
        trainer.train()
    seconds = time.perf_counter() - began
    with Progress("answering the dev texts", name=task):
        predictions = trainer.predict(dev).predictions.argmax(axis=1)
    correct = sum(int(predicted) == row["labels"] for predicted, row in zip(predictions, dev, strict=True))
    tokens = sum(len(row["input_ids"]) for row in train) * epochs
    return {
        "task": task,
        "accuracy": round(correct / len(dev), 6),
        "n": len(dev),
        "train_seconds": round(seconds, 1),
        "tokens_per_s": round(tokens / seconds, 1),
    }


if __name__ == "__main__":
    run(main)
