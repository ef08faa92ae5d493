"""Fine-tuning of one stage on the Hugging Face `Trainer`, through the packed forward pass.

`train_stage` builds the model from its parent's weights, trains it with the loss of `eat.finetune.losses` while the
pruning ratio anneals step by step, and saves it with its tokenizer and a JSONL log. Its checkpoints lie outside its
outputs, in a folder named by the hash of everything that determines the result, so that a run of something else is
never resumed. A run that was cut short at any moment, and run again, ends with the weights and the log of one that was
not; only `tokens_per_s` in the log is read off the clock.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from eat.engines.setting import Setting, fallback
from eat.errors import DamagedFile, EatError, listed
from eat.files import digest, only_one, read_json, replacing_folder, sha256_of, write_text
from eat.finetune.losses import SELF, JointLoss, exit_weights
from eat.model.configuration import EatConfig
from eat.model.encoder import PackedBatch
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.layout import Layout
from eat.model.saliency import saliency_of_texts
from eat.model.tokenizer import (
    Encoded,
    copy_tokenizer,
    encode,
    encode_split,
    load_tokenizer,
    read_split,
    require_embeddings,
)
from eat.model.weights import load_encoder, read_checkpoint
from eat.progress import Progress
from eat.results.trace import Trace
from eat.study.depths import chosen_layers

COMPLETE = "complete"
"""A file that stands in a checkpoint's folder once all else is written, with the sha256 of each other file."""

RUN_LOG = "run_log.json"
"""The state of the log, in a checkpoint's folder."""

KEPT = 2
"""Checkpoints that are kept: the newest, and one in case the newest is damaged."""


@dataclass(frozen=True)
class StageInputs:
    """What a stage is trained from.

    spec: all that determines it besides data and seed (`Study.training_spec`). parent: the folder of the backbone or of
    the model it starts from. train, card: the training split and the task's card. teacher: the trace of the teacher on
    the training split, where the stage distils. code: a digest of the code that trains, as the caller knows it, so that
    edited code does not resume what older code began.
    """

    spec: Mapping[str, Any]
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
                "spec": dict(self.spec),
                "seed": self.seed,
                "setting": asdict(Setting.of(self.spec)),
                "files": [sha256_of(file) for file in files],
                "code": self.code,
                "libraries": [version(name) for name in ("torch", "transformers", "accelerate")],
            }
        )


def train_stage(inputs: StageInputs, out: Path, checkpoints: Path, name: str) -> None:
    """Train one stage and write its model folder: weights, configuration, tokenizer and `train_log.jsonl`.

    checkpoints: the root under which checkpoints of this model are kept, and removed at the end with all that earlier
    recipes left. name: says in the progress lines what is being trained. One process at a time trains the model of
    `out`: another, such as the orphan of a workflow that was killed, is waited for. Raises `EatError` where the recipe
    does not fit the model, and where the loss is not finite.
    """
    spec = inputs.spec
    setting = Setting.of(spec)
    if setting.precision != spec["training"]["precision"]:
        print(f"{name}: {fallback(spec['training']['precision'], setting.device)}", file=sys.stderr, flush=True)
    set_seed(inputs.seed)
    transformers_logging.disable_progress_bar()
    labels = read_json(inputs.card)["labels"]
    table = read_split(inputs.train)
    model = build_model(spec, inputs.parent, labels, "text_b" in table.columns)
    stage = spec["stage"]
    trained = stage["train_heads"]
    loss = build_loss(stage, model.encoder.exits)
    _set_trainable(model, trained, soft=stage["removal"] == "soft")
    tokenizer = load_tokenizer(inputs.parent)
    teaches_itself = stage["distill"] is not None and stage["distill"]["teacher"] == SELF
    teacher = None if stage["distill"] is None or teaches_itself else _teacher_logits(inputs.teacher, list(table["id"]))
    examples = _examples(encode_split(tokenizer, table, spec["max_length"]), table["label"].to_numpy(), teacher)
    of_this_model = checkpoints / digest(str(out))[:20]
    with only_one(of_this_model.with_suffix(".lock"), f"trains {out}"):
        if model.encoder.reducer.soft and model.encoder.reducer.needs_saliency:
            _add_saliency(examples, inputs.parent, name, setting.device)
        for cut_short in out.parent.glob(f".{out.name}.*.part"):
            shutil.rmtree(cut_short)
        folder = of_this_model / inputs.fingerprint()[:20]
        whole = newest_checkpoint(folder)
        _remove_newer(folder, whole)
        arguments = _arguments(spec, setting, inputs.seed, folder, len(examples))
        trainer = StageTrainer(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=collate,
            loss=loss,
            text_ids=list(table["id"]),
            frozen=trained is not None,
            reducer_learning_rate=stage["reducer_learning_rate"],
        )
        steps_an_epoch = math.ceil(len(examples) / arguments.per_device_train_batch_size)
        progress = Progress("step", steps_an_epoch * stage["epochs"], name=name)
        log = RunLog(trainer, folder / "train_log.jsonl", progress, whole)
        trainer.add_callback(Annealing(model, stage["anneal"], steps_an_epoch))
        trainer.add_callback(Softening(model, steps_an_epoch))
        trainer.add_callback(log)
        trainer.add_callback(CountedSteps(progress))
        trainer.add_callback(MarkComplete())
        trainer.remove_callback(PrinterCallback)  # RunLog says it in fewer words
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


def build_model(
    spec: Mapping[str, Any], parent: Path, labels: list[str], pairs: bool = False
) -> EatForSequenceClassification:
    """The model of a stage, with the weights of `parent` wherever they fit and a seeded random start elsewhere.

    pairs: whether it is to read pairs of texts. Raises `EatError` where the parent cannot take such texts, or has not
    the layers that the stage takes.
    """
    checkpoint = read_checkpoint(parent)
    layers = chosen_layers(spec["layers"], checkpoint.shape.layers)
    tokenizer = load_tokenizer(parent)
    require_embeddings(tokenizer, parent, checkpoint.shape, spec["max_length"], pairs)
    separator = int(encode(tokenizer, [""], None, spec["max_length"])[0].ids[-1])
    given = spec["training"]["attention_dropout"]
    shape = replace(
        checkpoint.shape,
        layers=len(layers),
        classes=len(labels),
        separator=separator,
        attention_dropout=checkpoint.shape.attention_dropout if given is None else given,
    )
    model = EatForSequenceClassification(
        EatConfig(
            shape=asdict(shape),
            reducer=spec["reducer"],
            attention=spec["attention"],
            exits=spec["exits"]["after"],
            read=spec["exits"]["read"],
            head=spec["exits"]["head"],
            last_head=spec["last_head"],
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
        )
    )
    fresh = load_encoder(model.encoder, checkpoint, layers)
    missing = [parameter for parameter in fresh if not parameter.startswith(("exit_heads.", "reducer."))]
    if missing:
        raise EatError(f"{parent}: does not hold {listed(missing[:3])}; the encoder would start at random")
    return model


def build_loss(stage: Mapping[str, Any], exits: list[int]) -> JointLoss:
    """The loss of a stage of a model with these exits.

    Raises `EatError` where a key names a layer without a head, and where nothing would be learned.
    """
    trained = stage["train_heads"]
    given = {int(depth): float(weight) for depth, weight in stage["exit_weights"].items()}
    _check_heads(exits, trained or [], given)
    weights = exit_weights(given, exits, trained)
    distill = stage["distill"]
    loss = JointLoss(weights)
    if distill is not None:
        loss = JointLoss(
            weights,
            distill["mu"],
            distill["temperature"],
            distilled=weights if distill["onto"] == "all" else None,
            labels=distill["labels"],
            itself=distill["teacher"] == SELF,
            divergence=distill["divergence"],
        )
    if not loss.teaches:
        raise EatError("exit_weights is 0 for every exit that is trained, and nothing distils; give one more than 0")
    if loss.itself and not any(weight for depth, weight in weights.items() if depth != exits[-1]):
        raise EatError(f"teacher: self, but of the heads {listed(exits)} only the last is trained; it teaches others")
    return loss


def _check_heads(exits: list[int], trained: list[int], weights: Mapping[int, float]) -> None:
    for key, depths in (("train_heads", trained), ("exit_weights", list(weights))):
        unknown = [depth for depth in depths if depth not in exits]
        if unknown:
            raise EatError(f"{key} names layer {listed(unknown)}, after which there is no head; heads: {listed(exits)}")


def _set_trainable(model: EatForSequenceClassification, heads: list[int] | None, soft: bool) -> None:
    """Freeze all but these heads, where some are named; a reducer learns only while it removes softly."""
    if heads is not None:
        model.requires_grad_(False)
        for depth in heads:
            model.encoder.head(depth).requires_grad_(True)
    model.encoder.reducer.soften(soft)
    model.encoder.reducer.requires_grad_(soft)


def _add_saliency(examples: list[dict[str, Any]], parent: Path, name: str, device: str) -> None:
    """Give every training text the saliency of its tokens in the model that the stage starts from."""
    model = load_model(parent, {"reducer": {"kind": "none"}, "exits": []}).to(device)
    texts, labels = [example["text"] for example in examples], [example["label"] for example in examples]
    for example, worth in zip(examples, saliency_of_texts(model, texts, labels, name), strict=True):
        example["saliency"] = worth


def _teacher_logits(path: Path | None, ids: list[str]) -> np.ndarray:
    """The teacher's last-exit logits (N, C) in the order of `ids`."""
    if path is None:
        raise EatError("this stage distils, but no trace of its teacher was given; pass --teacher")
    trace = Trace.read(path)
    rows = {text: row for row, text in enumerate(trace.ids)}
    absent = [text for text in ids if text not in rows]
    if absent:
        raise EatError(f"{path}: lacks {len(absent)} of {len(ids)} training texts; trace the teacher again")
    return trace.logits[max(trace.logits)][[rows[text] for text in ids]]


def _examples(encoded: list[Encoded], labels: np.ndarray, teacher: np.ndarray | None) -> list[dict[str, Any]]:
    """One dictionary a training text, as the collator takes it."""
    return [
        {
            "text": text,
            "label": int(label),
            "row": row,
            "teacher": None if teacher is None else teacher[row],
            "saliency": None,
        }
        for row, (text, label) in enumerate(zip(encoded, labels, strict=True))
    ]


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Texts to one packed batch, the shortest first.

    Gives ids, types and saliency (n,), lengths, labels and rows (B,), and teacher (B, C).
    """
    examples = sorted(examples, key=lambda example: len(example["text"].ids))
    texts = [example["text"] for example in examples]
    teacher = [example["teacher"] for example in examples]
    saliency = [example["saliency"] for example in examples]
    return {
        "ids": torch.cat([text.ids for text in texts]),
        "types": torch.cat([text.types for text in texts]),
        "lengths": [len(text.ids) for text in texts],
        "labels": torch.tensor([example["label"] for example in examples]),
        "rows": [example["row"] for example in examples],
        "teacher": None if teacher[0] is None else torch.tensor(np.stack(teacher)),
        "saliency": None if saliency[0] is None else torch.cat(saliency),
    }


def _arguments(spec: Mapping[str, Any], setting: Setting, seed: int, folder: Path, examples: int) -> TrainingArguments:
    training = spec["training"]
    steps = math.ceil(examples / training["batch_size"]) * spec["stage"]["epochs"]
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=training["batch_size"],
        num_train_epochs=spec["stage"]["epochs"],
        learning_rate=training["learning_rate"],
        weight_decay=training["weight_decay"],
        warmup_steps=round(steps * training["warmup"]),
        lr_scheduler_type="linear",
        max_grad_norm=training["max_grad_norm"],
        optim="adamw_torch_fused",
        fp16=setting.precision == "float16",
        bf16=setting.precision == "bfloat16",
        use_cpu=setting.device == "cpu",
        seed=seed,
        data_seed=seed,
        logging_steps=10,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=100,
        save_total_limit=None,  # MarkComplete removes old ones, by number and not by date
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
    )
    # of several GPUs the Trainer would take all, and split a packed batch, which has no rows to split
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class StageTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` whose loss is the sum of named parts of the packed forward pass."""

    loss_is_scaled_for_ga = False
    """The loss is a mean over the batch, which the `Trainer` divides by the batches that make a step."""

    def __init__(
        self,
        *,
        loss: JointLoss,
        text_ids: list[str],
        frozen: bool,
        reducer_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.joint_loss = loss
        self.text_ids = text_ids
        self.frozen = frozen
        self.reducer_learning_rate = reducer_learning_rate
        self.parts: dict[str, float] = {}
        self.tokens = self.steps = 0

    def create_optimizer(self, model: Any = None) -> Any:
        """As the `Trainer` makes it, but with a rate of their own and no decay for a reducer's parameters."""
        optimizer = super().create_optimizer(model)
        own = {id(parameter) for parameter in self.model.encoder.reducer.parameters() if parameter.requires_grad}
        if own:
            kept = []
            for group in optimizer.param_groups:
                kept += [parameter for parameter in group["params"] if id(parameter) in own]
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
            rate = self.reducer_learning_rate or self.args.learning_rate
            optimizer.add_param_group({"params": kept, "lr": rate, "weight_decay": 0.0})
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one packed batch. Raises `EatError` with step and texts where it is not finite."""
        if self.frozen:
            model.eval()  # a frozen encoder without dropout: its heads see what they will read at inference
        layout = Layout(inputs["lengths"], inputs["ids"].device)
        batch = PackedBatch(inputs["ids"], inputs["types"], layout, saliency=inputs["saliency"])
        with self.accelerator.autocast():  # mixed precision wraps the model's own forward, which is not called here
            output = self.accelerator.unwrap_model(model).run(batch) if self.frozen else model.encoder(batch)
        parts = self.joint_loss(output.exits, inputs["labels"], inputs["teacher"])
        if output.loss is not None:
            parts["reducer"] = output.loss
        total: Tensor = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            texts = [self.text_ids[row] for row in inputs["rows"]]
            raise EatError(
                f"the loss is {total.item()} at step {self.state.global_step + 1} "
                f"({', '.join(f'{key} {value.item():g}' for key, value in parts.items())}); texts: {listed(texts)}; "
                "lower the learning rate, or look at these texts"
            )
        for part, value in parts.items():
            self.parts[part] = self.parts.get(part, 0.0) + float(value.detach())
        self.tokens += batch.layout.tokens
        self.steps += 1
        return (total, output) if return_outputs else total


class Annealing(TrainerCallback):  # type: ignore[misc]
    """Raises the reducer's pruning ratio from 0 to its full value, a little each step (algorithm 2).

    The ratio is a function of the global step alone, so that a resumed run continues where it was.
    """

    def __init__(
        self, model: EatForSequenceClassification, schedule: Mapping[str, float] | None, steps_an_epoch: int
    ) -> None:
        self.reducer = model.encoder.reducer
        self.scale = annealing(schedule, steps_an_epoch)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the ratio of the step that begins."""
        self.reducer.scale = self.scale(state.global_step)


class Softening(TrainerCallback):  # type: ignore[misc]
    """Tells a soft reducer the epoch before each step, and lets it bring its parameters into their range after it.

    The epoch is a function of the global step alone, so that a resumed run continues where it was.
    """

    def __init__(self, model: EatForSequenceClassification, steps_an_epoch: int) -> None:
        self.reducer = model.encoder.reducer
        self.steps_an_epoch = steps_an_epoch

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say which epoch the step belongs to."""
        if self.reducer.soft:
            self.reducer.begin_step(state.global_step / self.steps_an_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the parameters be brought into their range, before a checkpoint holds them."""
        if self.reducer.soft:
            self.reducer.end_step()


def annealing(schedule: Mapping[str, float] | None, steps_an_epoch: int) -> Callable[[int], float]:
    """The part of the full pruning ratio in force at each global step, in [0, 1]."""
    if schedule is None:
        return lambda step: 1.0
    start, end = schedule["start_epoch"] * steps_an_epoch, schedule["end_epoch"] * steps_an_epoch

    def scale(step: int) -> float:
        return float(step >= end) if end == start else min(max((step - start) / (end - start), 0.0), 1.0)

    return scale


class CountedSteps(TrainerCallback):  # type: ignore[misc]
    """Counts the steps for the progress lines, and shows the last one."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin where the training begins: the steps before a checkpoint that is resumed from count as done."""
        self.progress.begin(state.max_steps, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step."""
        self.progress.advance()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the last one."""
        self.progress.show()


class RunLog(TrainerCallback):  # type: ignore[misc]
    """Writes a line of the JSONL log every `logging_steps` steps and after the last; tells the progress lines of it.

    A line holds step, epoch, loss and its parts (means over the steps since the line before), the pruning ratio, the
    learning rate, and tokens a second. All of the log up to a checkpoint lies in the checkpoint, with the sums that the
    next line is made of: the log of a resumed run is that of an undisturbed one, but for `tokens_per_s`, which counts
    the seconds of both runs and not those between.
    """

    def __init__(self, trainer: StageTrainer, path: Path, progress: Progress, checkpoint: Path | None = None) -> None:
        self.trainer = trainer
        self.path = path
        self.progress = progress
        self.checkpoint = checkpoint
        self.lines: list[dict[str, Any]] = []
        self.since = time.perf_counter()

    def text(self) -> str:
        """The log."""
        return "".join(json.dumps(line) + "\n" for line in self.lines)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue the log of the checkpoint that is resumed from."""
        self.since = time.perf_counter()
        if self.checkpoint is not None:
            saved = read_json(self.checkpoint / RUN_LOG)
            self.lines = saved["lines"]
            self.trainer.parts, self.trainer.tokens, self.trainer.steps = (
                saved[key] for key in ("parts", "tokens", "steps")
            )
            self.since -= saved["seconds"]
            print(f"{self.progress.name}: resuming at step {state.global_step}", file=sys.stderr, flush=True)
        write_text(self.path, self.text())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a line after the last step too, whatever is left since the line before."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        """Write the averages since the line before."""
        if "loss" not in logs:
            return
        trainer = self.trainer
        now = time.perf_counter()
        reducer = trainer.model.encoder.reducer
        line = {
            "step": state.global_step,
            "epoch": round(logs["epoch"], 4),
            "loss": sum(trainer.parts.values()) / trainer.steps,
            **{part: value / trainer.steps for part, value in trainer.parts.items()},
            "pruning_ratio": reducer.ratio * reducer.scale if reducer.after else 0.0,
            "learning_rate": logs["learning_rate"],
            "tokens_per_s": round(trainer.tokens / (now - self.since), 1),
        }
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.progress.detail = f"loss {line['loss']:.3f}, {line['tokens_per_s']:.0f} tokens/s"
        trainer.parts, trainer.tokens, trainer.steps, self.since = {}, 0, 0, now

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the log into the checkpoint."""
        trainer = self.trainer
        saved = {
            "lines": self.lines,
            "parts": trainer.parts,
            "tokens": trainer.tokens,
            "steps": trainer.steps,
            "seconds": time.perf_counter() - self.since,
        }
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (checkpoint / RUN_LOG).write_text(json.dumps(saved), encoding="utf-8")


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as whole once all of it is written, and then removes old ones.

    Nothing waits for the disk, which would cost seconds a gigabyte: what a power loss damages is found by the digests
    in the mark, and costs the steps since the checkpoint before.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the mark into the newest checkpoint."""
        folder = Path(args.output_dir)
        newest = folder / f"checkpoint-{state.global_step}"
        files = sorted(path.name for path in newest.iterdir())
        digests = {name: sha256_of(newest / name) for name in files}
        (newest / COMPLETE).write_text(json.dumps({"files": digests}), encoding="utf-8")
        for old in _checkpoints(folder)[KEPT:]:
            shutil.rmtree(old)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, or `None`.

    Each that was cut short or is damaged is named on stderr, with the reason, and skipped.
    """
    for checkpoint in _checkpoints(folder):
        reason = _damage(checkpoint)
        if reason is None:
            return checkpoint
        print(f"skipping {checkpoint}: {reason}", file=sys.stderr, flush=True)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoints below `folder`, the newest first."""
    return sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _damage(checkpoint: Path) -> str | None:
    """What a checkpoint lacks, or `None` where it is whole."""
    mark = checkpoint / COMPLETE
    if not mark.exists():
        return "it was not written to its end"
    try:
        files = read_json(mark)["files"]
    except DamagedFile:
        return f"its mark {COMPLETE} is damaged"
    for name, expected in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if sha256_of(checkpoint / name) != expected:
            return f"{name} is not what was written"
    return None


def _remove_newer(folder: Path, whole: Path | None) -> None:
    """Remove the checkpoints that were skipped: the run will write their steps again, into folders of the same name."""
    for checkpoint in _checkpoints(folder):
        if whole is None or _step_of(checkpoint) > _step_of(whole):
            shutil.rmtree(checkpoint)
