"""The Hugging Face `Trainer` of a stage, and its arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from eat.engines.setting import Setting
from eat.errors import EatError, listed
from eat.finetune.layer_distillation import LayerLoss
from eat.finetune.losses import JointLoss
from eat.finetune.policies import PolicyLoss
from eat.finetune.processes import add_gradients, added
from eat.finetune.shares import ALONE, Share
from eat.finetune.widths import run_at_width
from eat.model.batch import PackedBatch
from eat.model.encoder import EncoderOutput
from eat.model.layout import Layout
from eat.study.specs.finetune import TrainingSpec


def trainer_arguments(
    spec: TrainingSpec, setting: Setting, seed: int, folder: Path, examples: int, saves: bool = True
) -> TrainingArguments:
    """The arguments of the `Trainer` of a stage.

    folder: the folder of its checkpoints. examples: the number of training texts, which determines the warm-up. saves:
    whether this process writes checkpoints.
    """
    training = spec.training
    steps = math.ceil(examples / training.batch_size) * spec.stage.epochs
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=training.batch_size,
        num_train_epochs=spec.stage.epochs,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        warmup_steps=round(steps * training.warmup),
        lr_scheduler_type="linear",
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused",
        fp16=setting.precision == "float16",
        bf16=setting.precision == "bfloat16",
        use_cpu=setting.device == "cpu",
        seed=seed,
        data_seed=seed,
        logging_steps=10,
        logging_nan_inf_filter=False,
        save_strategy="steps" if saves else "no",
        save_steps=100,
        save_total_limit=None,  # MarkComplete removes old ones, by step instead of date
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
    )
    # the Trainer would use all GPUs and split a packed batch, which has no rows to split
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class StageTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` whose loss is the sum of named parts of the packed forward pass."""

    loss_is_scaled_for_ga = False
    """The loss is a mean over the batch, which the `Trainer` divides by the number of batches per step."""

    def __init__(
        self,
        *,
        loss: JointLoss,
        text_ids: list[str],
        frozen: bool,
        alternates: bool = False,
        layers: LayerLoss | None = None,
        policy: PolicyLoss | None = None,
        widths: Sequence[float] = (1.0,),
        reducer_learning_rate: float | None = None,
        share: Share = ALONE,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=share.collate, **kwargs)
        self.joint_loss = loss
        self.loss_of_last = loss.of_last() if alternates else loss
        self.text_ids = text_ids
        self.frozen = frozen
        self.layer_loss = layers
        self.policy_loss = policy
        self.widths = widths
        self.reducer_learning_rate = reducer_learning_rate
        self.share = share
        self.parts: dict[str, float] = {}
        self.measures: dict[str, float] = {}
        self.tokens = self.steps = 0

    def create_optimizer(self, model: Any = None) -> Any:
        """The optimizer of `Trainer`, with a separate rate and no decay for a reducer's parameters."""
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

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Compute the gradients of one batch; of several processes each adds those of its share."""
        if self.share.is_whole:
            return super().training_step(model, inputs, num_items_in_batch)
        # dropout differs between processes, and is that of the step in a resumed run, too
        drawn = np.random.SeedSequence([self.args.seed, self.state.global_step, self.share.rank])
        torch.manual_seed(int(drawn.generate_state(1)[0]))
        loss = super().training_step(model, inputs, num_items_in_batch)
        add_gradients([parameter for parameter in self.model.parameters() if parameter.requires_grad])
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one packed batch. Raises `EatError` with step and texts if it is not finite."""
        if self.frozen:
            model.eval()  # a frozen encoder without dropout: what is trained gets the same input as at inference
        if self.policy_loss is not None:
            inputs = self.policy_loss.repeated(inputs)
        layout = Layout(inputs["lengths"], inputs["ids"].device)
        batch = PackedBatch(inputs["ids"], inputs["types"], layout, saliency=inputs["saliency"])
        parts: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        for width in self.widths:
            with self.accelerator.autocast():  # mixed precision wraps the model's forward, which is not called here
                if self.frozen:
                    output = self.accelerator.unwrap_model(model).run(batch)
                else:
                    output = run_at_width(model.encoder, batch, width)
            found, measures = self._parts(output, batch, inputs)
            if not self.share.is_whole:
                found = {name: inputs["weights"].of(name) * part for name, part in found.items()}
            parts |= {name if width == 1.0 else f"{name}_at_{width:g}": part for name, part in found.items()}
        total: Tensor = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            texts = [self.text_ids[row] for row in inputs["rows"]]
            raise EatError(
                f"the loss is {total.item()} at step {self.state.global_step + 1} "
                f"({', '.join(f'{key} {value.item():g}' for key, value in parts.items())}); texts: {listed(texts)}; "
                "lower the learning rate, or check these texts"
            )
        whole = parts if self.share.is_whole else added(parts)
        for sums, values in ((self.parts, whole), (self.measures, measures)):
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        self.tokens += batch.layout.tokens if self.share.is_whole else inputs["weights"].whole.tokens
        self.steps += 1
        return (total, output) if return_outputs else total

    def _parts(
        self, output: EncoderOutput, batch: PackedBatch, inputs: dict[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The named parts of the loss of a forward pass, and measures for the log."""
        # BERxiT's alternation depends only on the global step, so that a resumed run continues where it was
        loss = self.joint_loss if self.state.global_step % 2 else self.loss_of_last
        parts: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        if self.policy_loss is not None:
            parts, measures = self.policy_loss(output.exits[max(output.exits)], inputs["labels"])
        if self.policy_loss is None or self.policy_loss.options.trains == "all":
            parts |= loss(output.exits, inputs["labels"], inputs["teacher"])
        if output.loss is not None:
            parts["reducer"] = output.loss
        if self.layer_loss is not None:
            parts |= self.layer_loss(batch)
        return parts, measures
