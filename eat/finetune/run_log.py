"""The JSONL log and the progress lines of a training run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from eat.files import read_json, write_text
from eat.progress import Progress

if TYPE_CHECKING:
    from eat.finetune.trainer import StageTrainer

RUN_LOG = "run_log.json"
"""The state of the log, in a checkpoint's folder."""


class CountedSteps(TrainerCallback):  # type: ignore[misc]
    """Counts steps for the progress lines, and prints the last one."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin when the training begins: the steps before the checkpoint that it resumes from count as done."""
        self.progress.begin(state.max_steps, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step."""
        self.progress.advance()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Print the last line."""
        self.progress.show()


class RunLog(TrainerCallback):  # type: ignore[misc]
    """Writes a line of the JSONL log every `logging_steps` steps and after the last; updates the progress line.

    A line holds step, epoch, loss, its parts and other measures (means over the steps since the previous line), the
    pruning ratio, the learning rate, and tokens per second. A checkpoint contains the log so far and the sums for the
    next line, so the log of a resumed run equals that of an uninterrupted one, except for `tokens_per_s`, which counts
    the seconds of both runs without the time between them.
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
        """Continue the log of the checkpoint from which the run resumes."""
        self.since = time.perf_counter()
        if self.checkpoint is not None:
            saved = read_json(self.checkpoint / RUN_LOG)
            self.lines = saved["lines"]
            self.trainer.parts, self.trainer.measures, self.trainer.tokens, self.trainer.steps = (
                saved[key] for key in ("parts", "measures", "tokens", "steps")
            )
            self.since -= saved["seconds"]
            print(f"{self.progress.name}: resuming at step {state.global_step}", file=sys.stderr, flush=True)
        write_text(self.path, self.text())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Request a line after the last step as well."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        """Write the averages since the previous line."""
        if "loss" not in logs:
            return
        trainer = self.trainer
        now = time.perf_counter()
        reducer = trainer.model.encoder.reducer
        line = {
            "step": state.global_step,
            "epoch": round(logs["epoch"], 4),
            "loss": sum(trainer.parts.values()) / trainer.steps,
            **{name: value / trainer.steps for name, value in (trainer.parts | trainer.measures).items()},
            "pruning_ratio": reducer.ratio * reducer.scale if reducer.after else 0.0,
            "learning_rate": logs["learning_rate"],
            "tokens_per_s": round(trainer.tokens / (now - self.since), 1),
        }
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.progress.detail = f"loss {line['loss']:.3f}, {line['tokens_per_s']:.0f} tokens/s"
        trainer.parts, trainer.measures, trainer.tokens, trainer.steps, self.since = {}, {}, 0, 0, now

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the log into the checkpoint."""
        trainer = self.trainer
        saved = {
            "lines": self.lines,
            "parts": trainer.parts,
            "measures": trainer.measures,
            "tokens": trainer.tokens,
            "steps": trainer.steps,
            "seconds": time.perf_counter() - self.since,
        }
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (checkpoint / RUN_LOG).write_text(json.dumps(saved), encoding="utf-8")
