"""Fine-tuning of a tagger: the sum over its heads of the cross-entropy, a mean over the words of the batch.

It uses the `Trainer`, the checkpoints and the log of `eat.finetune`: a run that was interrupted resumes from its newest
complete checkpoint, and ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PrinterCallback, Trainer, set_seed
from transformers.utils import logging as transformers_logging

from eat.engines.setting import Setting, fallback
from eat.errors import EatError, listed
from eat.files import digest, only_one, read_json, replacing_folder, write_text
from eat.finetune.resuming import MarkComplete, newest_checkpoint, remove_newer
from eat.finetune.run_log import CountedSteps, RunLog
from eat.finetune.stage import StageInputs
from eat.finetune.trainer import trainer_arguments
from eat.model.tokenizer import copy_tokenizer, load_tokenizer
from eat.progress import Progress
from eat.tagging.model import Tagger, build_tagger
from eat.tagging.sentences import EncodedSentence, Pieces, SentenceBatch, read_sentences_split

if TYPE_CHECKING:
    from eat.finetune.trainer import StageTrainer


def train_tagger(inputs: StageInputs, out: Path, checkpoints: Path, name: str) -> None:
    """Train a tagger from a backbone and write its folder: weights, configuration, tokenizer and `train_log.jsonl`.

    inputs: the specification of its only stage; `train` is one file of sentences, `card` its `sentences.json`.
    checkpoints, name: as for `eat.finetune.stage.train_stage`. Raises `EatError` if the loss is not finite.
    """
    spec = inputs.spec
    setting = Setting.of(spec.training)
    if setting.precision != spec.training.precision:
        print(f"{name}: {fallback(spec.training.precision, setting.device)}", file=sys.stderr, flush=True)
    set_seed(inputs.seed)
    transformers_logging.disable_progress_bar()
    tags = read_json(inputs.card)["tags"]
    dropout = spec.training.attention_dropout
    tagger = build_tagger(inputs.parent, tags, spec.exits.after, spec.max_length, dropout)
    table = read_sentences_split(inputs.train[0])
    pieces = Pieces(load_tokenizer(inputs.parent))
    examples = [
        {"sentence": pieces.encode(words), "tags": torch.tensor(list(numbers)), "id": given}
        for words, numbers, given in zip(table["words"], table["tags"], table["id"], strict=True)
    ]
    of_this_model = checkpoints / digest(str(out))[:20]
    with only_one(of_this_model.with_suffix(".lock"), f"trains {out}"):
        for cut_short in out.parent.glob(f".{out.name}.*.part"):
            shutil.rmtree(cut_short)
        lines = _train(tagger, inputs, examples, of_this_model / inputs.fingerprint()[:20], setting, name)
        with replacing_folder(out) as temporary:
            tagger.to("cpu").save(temporary)
            copy_tokenizer(inputs.parent, temporary)
            write_text(temporary / "train_log.jsonl", lines)
        shutil.rmtree(of_this_model)


def _train(
    tagger: Tagger, inputs: StageInputs, examples: list[dict[str, Any]], folder: Path, setting: Setting, name: str
) -> str:
    """Train the model in place, from the newest whole checkpoint in `folder` if there is one, and return the log."""
    whole = newest_checkpoint(folder)
    remove_newer(folder, whole)
    arguments = trainer_arguments(inputs.spec, setting, inputs.seed, folder, len(examples))
    trainer = TaggingTrainer(model=tagger, args=arguments, train_dataset=examples, data_collator=collate)
    steps = math.ceil(len(examples) / arguments.per_device_train_batch_size) * inputs.spec.stage.epochs
    progress = Progress("step", math.ceil(steps), name=name)
    # the log reads the sums and the reducer, which both trainers have
    log = RunLog(cast("StageTrainer", trainer), folder / "train_log.jsonl", progress, whole)
    for callback in (log, CountedSteps(progress), MarkComplete()):
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)
    with progress:
        trainer.train(resume_from_checkpoint=None if whole is None else str(whole))
    return log.text()


class TaggingTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` of taggers, which counts what `RunLog` writes."""

    loss_is_scaled_for_ga = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts: dict[str, float] = {}
        self.measures: dict[str, float] = {}
        self.tokens = self.steps = 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one packed batch. Raises `EatError` with step and sentences if it is not finite."""
        batch = SentenceBatch.of(inputs["sentences"], self.args.device)
        labels = torch.cat([inputs["tags"][row] for row in batch.packed.rows]).to(self.args.device)
        with self.accelerator.autocast():
            logits = model(batch)
        parts = joint_loss(logits, labels)
        total: Tensor = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            raise EatError(
                f"the loss is {total.item()} at step {self.state.global_step + 1}; sentences: {listed(inputs['ids'])}; "
                "lower the learning rate, or check these sentences"
            )
        for part, value in parts.items():
            self.parts[part] = self.parts.get(part, 0.0) + float(value.detach())
        self.tokens += batch.packed.layout.tokens
        self.steps += 1
        return (total, logits) if return_outputs else total


def joint_loss(logits: dict[int, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """The cross-entropy of each exit, whose sum is the loss: L = sum_l CE_l, with the weight 1 for each.

    logits: layer -> (w, C). labels: int64 (w,). A word is a term of the mean, whatever its sentence.
    """
    return {f"exit_{depth}": F.cross_entropy(found.float(), labels) for depth, found in logits.items()}


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Sentences of a batch, with the tags of each, in the given order."""
    sentences: list[EncodedSentence] = [example["sentence"] for example in examples]
    return {
        "sentences": sentences,
        "tags": [example["tags"] for example in examples],
        "ids": [example["id"] for example in examples],
    }
