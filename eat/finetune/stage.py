"""Fine-tuning of one stage on the Hugging Face `Trainer`, through the packed forward pass.

`train_stage` builds the model from its parent's weights, trains it with the loss of `eat.finetune.losses` while the
pruning ratio anneals step by step, and saves it with its tokenizer and a JSONL log. Its checkpoints are outside its
outputs, in a folder named by the hash of everything that determines the result, so that only the same run is resumed.
A run that was interrupted at any moment and run again ends with the weights and the log of an uninterrupted one; only
`tokens_per_s` in the log differs.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from eat.engines.setting import Setting, fallback
from eat.errors import EatError
from eat.files import digest, only_one, read_json, replacing_folder, sha256_of, write_text
from eat.finetune.examples import add_saliency, teacher_logits, training_examples
from eat.finetune.frozen_heads import HeadOptions, kept_vectors, train_heads
from eat.finetune.initial_model import build_model, set_trainable
from eat.finetune.layer_distillation import PROJECTION, layer_loss
from eat.finetune.losses import JointLoss, build_loss
from eat.finetune.policies import PolicyLoss
from eat.finetune.processes import meeting, number_of_first, weights_of_first
from eat.finetune.resuming import MarkComplete, checkpoint_of, newest_checkpoint, remove_newer, step_of
from eat.finetune.run_log import CountedSteps, RunLog
from eat.finetune.schedules import RisingRatio, Softening
from eat.finetune.shares import ALONE, Share
from eat.finetune.trainer import StageTrainer, trainer_arguments
from eat.finetune.widths import rewire
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.reducers.policy import PolicyReducer
from eat.model.tokenizer import copy_tokenizer, encode_split, load_tokenizer, read_split
from eat.progress import Progress
from eat.study.recipes import Stage
from eat.study.specs.finetune import TrainingSpec


@dataclass(frozen=True)
class StageInputs:
    """The inputs of a stage.

    spec: everything that determines it besides data and seed. parent: the folder of the backbone or of the model it
    starts from. train, card: the files of training texts, labelled or not, and the task's card. teacher: the traces of
    the teacher on these texts, if the stage learns from its logits. teacher_model: the folder of its model, if the
    stage learns from its layers. code: a digest of the training code, so that edited code does not resume a run of
    older code.
    """

    spec: TrainingSpec
    parent: Path
    train: Sequence[Path]
    card: Path
    seed: int
    teacher: Sequence[Path] = ()
    teacher_model: Path | None = None
    code: str = ""

    def fingerprint(self) -> str:
        """A hash of what determines the weights: recipe, data, parent, seed, setting, code, the libraries' versions."""
        folders = [self.parent, *([] if self.teacher_model is None else [self.teacher_model])]
        models = [
            folder / name for folder in folders for name in ("config.json", "model.safetensors", "tokenizer.json")
        ]
        files = [*self.train, self.card, *models, *self.teacher]
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


def train_stage(inputs: StageInputs, out: Path, checkpoints: Path, name: str, share: Share = ALONE) -> None:
    """Train one stage and write its model folder: weights, configuration, tokenizer and `train_log.jsonl`.

    checkpoints: the root of this model's checkpoints, which are removed at the end, including those of earlier recipes.
    name: printed in progress lines. share: the part of this process, if several train the stage together: each of them
    calls this function. Only one job at a time trains the model of `out`; others wait, for example for a job of a
    workflow that was killed. Raises `EatError` if the recipe does not fit the model, if there are more or fewer
    processes than its `gpus`, and if the loss is not finite.
    """
    spec = inputs.spec
    if share.of != spec.training.gpus:
        raise EatError(
            f"training.gpus is {spec.training.gpus}, but the stage is trained by {share.of} process here; set it to "
            f"{share.of}, or train in the workflow"
        )
    setting = Setting.of(spec.training)
    if setting.precision != spec.training.precision and share.leads:
        print(f"{name}: {fallback(spec.training.precision, setting.device)}", file=sys.stderr, flush=True)
    set_seed(inputs.seed)
    transformers_logging.disable_progress_bar()
    labels = read_json(inputs.card)["labels"]
    table = pd.concat(map(read_split, inputs.train), ignore_index=True)
    model = build_model(spec, inputs.parent, labels, "text_b" in table.columns)
    stage = spec.stage
    loss = build_loss(stage, model.encoder.exits)
    set_trainable(model, stage)
    tokenizer = load_tokenizer(inputs.parent)
    teacher = None if stage.logits_of is None else teacher_logits(inputs.teacher, list(table["id"]))
    examples = training_examples(encode_split(tokenizer, table, spec.max_length), table["label"].to_numpy(), teacher)
    of_this_model = checkpoints / digest(str(out))[:20]
    keeps = keeps_vectors(model, stage)
    if keeps and not share.leads:
        return  # heads on vectors take one process
    with only_one(of_this_model.with_suffix(".lock"), f"trains {out}") if share.leads else nullcontext():
        if model.encoder.reducer.soft and model.encoder.reducer.needs_saliency:
            add_saliency(examples, inputs.parent, name, setting.device)
        folder = of_this_model / inputs.fingerprint()[:20]
        if share.leads:
            for cut_short in out.parent.glob(f".{out.name}.*.part"):
                shutil.rmtree(cut_short)
        if keeps:
            setting = replace(setting, precision="float32")
            lines = train_frozen(model, inputs, loss, examples, teacher, folder, setting.device)
        else:
            with meeting(share, setting.device):
                lines = train_layers(model, inputs, loss, examples, list(table["id"]), folder, setting, name, share)
        if share.leads:
            with replacing_folder(out) as temporary:
                _save(model, inputs.parent, setting, lines, temporary)
            shutil.rmtree(of_this_model)


def _save(model: EatForSequenceClassification, parent: Path, setting: Setting, log: str, folder: Path) -> None:
    """Write the files of a trained model."""
    model.config.trained = asdict(setting)
    model.save_pretrained(folder)
    copy_tokenizer(parent, folder)
    write_text(folder / "train_log.jsonl", log)


def keeps_vectors(model: EatForSequenceClassification, stage: Stage) -> bool:
    """Whether a stage trains heads on vectors that are computed once: all that they read is frozen."""
    heads = [model.encoder.head(depth) for depth in stage.train_heads or []]
    trains_last = model.config.num_hidden_layers in (stage.train_heads or [])
    return bool(heads) and not trains_last and stage.anneal is None and all(head.reader is None for head in heads)


def train_layers(
    model: EatForSequenceClassification,
    inputs: StageInputs,
    loss: JointLoss,
    examples: list[dict[str, Any]],
    ids: list[str],
    folder: Path,
    setting: Setting,
    name: str,
    share: Share,
) -> str:
    """Train the model in place, from the newest whole checkpoint in `folder` if there is one, and return the log.

    Of several processes, the first finds the checkpoint, writes the new ones and keeps the log.
    """
    spec, stage = inputs.spec, inputs.spec.stage
    whole = None
    if share.leads:
        whole = newest_checkpoint(folder)
        remove_newer(folder, whole)
    if not share.is_whole:
        step = number_of_first(0 if whole is None else step_of(whole), setting.device)
        whole = checkpoint_of(folder, step) if step else None
    arguments = trainer_arguments(spec, setting, inputs.seed, folder, len(examples), share.leads)
    layers = policy = None
    if stage.policy is not None:
        assert isinstance(model.encoder.reducer, PolicyReducer)
        policy = PolicyLoss(stage.policy, model.encoder.reducer)
    if stage.distill is not None and stage.distill.layers is not None:
        layers = layer_loss(model, inputs.parent, inputs.teacher_model, stage.distill.layers, setting.device)
    if stage.widths is not None and stage.widths.order == "importance" and whole is None:
        # a checkpoint has the heads and neurons in this order already
        rewire(model.eval().to(setting.device).encoder, examples, name)
        model.to("cpu")
    trainer = StageTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        loss=loss,
        text_ids=ids,
        frozen=stage.train_heads is not None or stage.trains_policy_alone,
        alternates=stage.steps == "alternating",
        layers=layers,
        policy=policy,
        widths=(1.0,) if stage.widths is None else stage.widths.train,
        reducer_learning_rate=stage.reducer_learning_rate,
        share=share,
    )
    if not share.is_whole:
        weights_of_first(model)
    steps_an_epoch = math.ceil(len(examples) / arguments.per_device_train_batch_size)
    progress = Progress("step", math.ceil(steps_an_epoch * stage.epochs), name=name)  # as the Trainer counts
    log = RunLog(trainer, folder / "train_log.jsonl", progress, whole)
    trainer.add_callback(RisingRatio(model, stage.anneal, steps_an_epoch))
    trainer.add_callback(Softening(model, steps_an_epoch))
    for callback in (log, CountedSteps(progress), MarkComplete()) if share.leads else ():
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)  # RunLog prints a shorter line
    with progress:
        trainer.train(resume_from_checkpoint=None if whole is None else str(whole))
    model.encoder.reducer.scale = 1.0
    model.encoder.reducer.soften(False)
    if hasattr(model, PROJECTION):
        delattr(model, PROJECTION)
    return log.text()


def train_frozen(
    model: EatForSequenceClassification,
    inputs: StageInputs,
    loss: JointLoss,
    examples: list[dict[str, Any]],
    teacher: np.ndarray | None,
    folder: Path,
    device: str,
) -> str:
    """Train the heads of a frozen encoder in place, and return the log. The vectors are kept in `folder`."""
    training, stage = inputs.spec.training, inputs.spec.stage
    depths = stage.train_heads or []
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().to(device)
    read, logits = kept_vectors(model.encoder, [example["text"] for example in examples], depths, folder)
    model.to("cpu")
    lines = train_heads(
        {depth: model.encoder.head(depth) for depth in depths},
        read,
        logits if teacher is None else teacher,
        loss,
        HeadOptions(
            epochs=stage.epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            warmup=training.warmup,
            seed=inputs.seed,
        ),
        np.array([example["label"] for example in examples], dtype=np.int64),
        last=model.config.num_hidden_layers if loss.itself else None,
    )
    return "".join(json.dumps(line) + "\n" for line in lines)
