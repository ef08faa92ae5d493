"""Fine-tuning of one stage on the Hugging Face `Trainer`, through the packed forward pass.

`train_stage` builds the model from its parent's weights, trains it with the loss of `eat.finetune.losses` while the
pruning ratio anneals step by step, and saves it with its tokenizer and a JSONL log. Its checkpoints are outside its
outputs, in a folder named by the hash of everything that determines the result, so that only the same run is resumed.
A run that was interrupted at any moment and run again ends with the weights and the log of an uninterrupted one; only
`tokens_per_s` in the log differs.
"""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from eat.engines.setting import Setting, fallback
from eat.files import digest, only_one, read_json, replacing_folder, sha256_of, write_text
from eat.finetune.examples import add_saliency, collate, teacher_logits, training_examples
from eat.finetune.initial_model import build_model, set_trainable
from eat.finetune.losses import build_loss
from eat.finetune.resuming import MarkComplete, newest_checkpoint, remove_newer
from eat.finetune.run_log import CountedSteps, RunLog
from eat.finetune.schedules import RisingRatio, Softening
from eat.finetune.trainer import StageTrainer, trainer_arguments
from eat.model.tokenizer import copy_tokenizer, encode_split, load_tokenizer, read_split
from eat.progress import Progress
from eat.study.specs.finetune import TrainingSpec


@dataclass(frozen=True)
class StageInputs:
    """The inputs of a stage.

    spec: everything that determines it besides data and seed. parent: the folder of the backbone or of
    the model it starts from. train, card: the training split and the task's card. teacher: the trace of the teacher on
    the training split, if the stage distils. code: a digest of the training code, so that edited code does not
    resume a run of older code.
    """

    spec: TrainingSpec
    parent: Path
    train: Path
    card: Path
    seed: int
    teacher: Path | None = None
    code: str = ""

    def fingerprint(self) -> str:
        """A hash of what determines the weights: recipe, data, parent, seed, setting, code, the libraries' versions."""
        parent = [self.parent / name for name in ("config.json", "model.safetensors", "tokenizer.json")]
        files = [self.train, self.card, *parent, *([self.teacher] if self.teacher else [])]
        return digest(
            {
                "spec": self.spec.plain(),
                "seed": self.seed,
                "setting": asdict(Setting.of(self.spec.training)),
                "files": [sha256_of(file) for file in files],
                "code": self.code,
                "libraries": [version(name) for name in ("torch", "transformers", "accelerate")],
            }
        )


def train_stage(inputs: StageInputs, out: Path, checkpoints: Path, name: str) -> None:
    """Train one stage and write its model folder: weights, configuration, tokenizer and `train_log.jsonl`.

    checkpoints: the root of this model's checkpoints, which are removed at the end, including those of earlier recipes.
    name: printed in progress lines. Only one process at a time trains the model of `out`; others wait, for example for
    a job of a workflow that was killed. Raises `EatError` if the recipe
    does not fit the model, and if the loss is not finite.
    """
    spec = inputs.spec
    setting = Setting.of(spec.training)
    if setting.precision != spec.training.precision:
        print(f"{name}: {fallback(spec.training.precision, setting.device)}", file=sys.stderr, flush=True)
    set_seed(inputs.seed)
    transformers_logging.disable_progress_bar()
    labels = read_json(inputs.card)["labels"]
    table = read_split(inputs.train)
    model = build_model(spec, inputs.parent, labels, "text_b" in table.columns)
    stage = spec.stage
    trained = stage.train_heads
    loss = build_loss(stage, model.encoder.exits)
    set_trainable(model, trained, soft=stage.removal == "soft")
    tokenizer = load_tokenizer(inputs.parent)
    teacher = None if stage.teacher is None else teacher_logits(inputs.teacher, list(table["id"]))
    examples = training_examples(encode_split(tokenizer, table, spec.max_length), table["label"].to_numpy(), teacher)
    of_this_model = checkpoints / digest(str(out))[:20]
    with only_one(of_this_model.with_suffix(".lock"), f"trains {out}"):
        if model.encoder.reducer.soft and model.encoder.reducer.needs_saliency:
            add_saliency(examples, inputs.parent, name, setting.device)
        for cut_short in out.parent.glob(f".{out.name}.*.part"):
            shutil.rmtree(cut_short)
        folder = of_this_model / inputs.fingerprint()[:20]
        whole = newest_checkpoint(folder)
        remove_newer(folder, whole)
        arguments = trainer_arguments(spec, setting, inputs.seed, folder, len(examples))
        trainer = StageTrainer(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=collate,
            loss=loss,
            text_ids=list(table["id"]),
            frozen=trained is not None,
            reducer_learning_rate=stage.reducer_learning_rate,
        )
        steps_an_epoch = math.ceil(len(examples) / arguments.per_device_train_batch_size)
        progress = Progress("step", steps_an_epoch * stage.epochs, name=name)
        log = RunLog(trainer, folder / "train_log.jsonl", progress, whole)
        trainer.add_callback(RisingRatio(model, stage.anneal, steps_an_epoch))
        trainer.add_callback(Softening(model, steps_an_epoch))
        trainer.add_callback(log)
        trainer.add_callback(CountedSteps(progress))
        trainer.add_callback(MarkComplete())
        trainer.remove_callback(PrinterCallback)  # RunLog prints a shorter line
        with progress:
            trainer.train(resume_from_checkpoint=None if whole is None else str(whole))
        with replacing_folder(out) as temporary:
            model.encoder.reducer.scale = 1.0
            model.encoder.reducer.soften(False)
            model.config.trained = asdict(setting)
            model.save_pretrained(temporary)
            copy_tokenizer(inputs.parent, temporary)
            write_text(temporary / "train_log.jsonl", log.text())
        shutil.rmtree(of_this_model)
