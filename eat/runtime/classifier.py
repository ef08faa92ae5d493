"""A classifier that runs an exported model.

    from eat.runtime import AdaptiveClassifier

    classify = AdaptiveClassifier.load("my_model")
    [answer] = classify(["a quiet, funny film that knows when to stop"])

Libraries are imported when a model is loaded, so that the import of this module takes milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from eat.errors import DamagedFile, EatError
from eat.runtime.manifest import MODEL, TOKENIZER, Manifest, read_manifest
from eat.runtime.operating_point import Table, point_feeds

Text = str | tuple[str, str]
"""A text, or a pair of texts."""

LAST_LAYER = "last_layer"
"""The `exit_reason` of a text that ran through all layers."""

SHORTEST = 4
"""The fewest tokens of a truncated text: those of a pair are [CLS], [SEP], [SEP] and one more."""

OUTPUTS = ("probabilities", "depth", "reason", "kept")
"""The outputs of the model that are read here; `reason` is 0 for the last layer and 1 for the rule."""


@dataclass(frozen=True)
class Answer:
    """The answer to a text.

    label: the most probable class. probability: its calibrated probability. probabilities: label -> probability, in
    the order of the classes. depth: the layers that were executed. exit_reason: `last_layer`, or the names of the
    rules that held, joined by `+`.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]
    depth: int
    exit_reason: str


@dataclass(frozen=True)
class Trace:
    """An answer, and what the model did to the text.

    tokens: the number of tokens that were read. kept: the positions of those that were still there at the exit.
    """

    answer: Answer
    tokens: int
    kept: tuple[int, ...]

    @property
    def retention(self) -> float:
        """The share of the tokens that were still there at the exit."""
        return len(self.kept) / self.tokens


class AdaptiveClassifier:
    """An exported model; `load` makes one, and a call classifies texts. Calls from several threads are safe."""

    def __init__(self, manifest: Manifest, tokenizer: Any, sessions: _Sessions, feeds: Mapping[str, Any]) -> None:
        self.manifest = manifest
        self._tokenizer = tokenizer
        self._sessions = sessions
        self._feeds = dict(feeds)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        threads: int | None = None,
        tau: float | None = None,
        thresholds: Table | None = None,
        temperatures: Mapping[int, float] | None = None,
        max_length: int | None = None,
        spinning: bool = False,
    ) -> Self:
        """Load the model that `eat export` wrote into a folder.

        threads: those of one call; default: one for each core that this process may use. tau: replaces all thresholds.
        thresholds: one for each exit and class, (exits, classes), of which the last exit's are not used. Thresholds are
        in (0, 1], and at 1 no text exits. temperatures: layer -> temperature, for each exit. max_length: the tokens
        after which a text is truncated; default: as in training. spinning: threads wait actively between calls, which
        saves some microseconds per call and keeps cores busy. Raises `EatError` if an option is not allowed, the folder
        holds no export, or the installed ONNX Runtime lacks an operator; `DamagedFile` if a file is not the exported
        one.
        """
        manifest = read_manifest(folder)
        feeds = point_feeds(manifest, tau, thresholds, temperatures)
        if threads is not None:
            _require_whole("threads", threads, 1)
        length = manifest.max_length
        if max_length is not None:
            _require_whole("max_length", max_length, SHORTEST, manifest.positions, "the model's positions")
            length = max_length
        tokenizer = _tokenizer(manifest, length)
        sessions = _Sessions(manifest, threads or usable_cores(), spinning)
        return cls(manifest, tokenizer, sessions, feeds)

    def __call__(self, texts: Sequence[Text], workers: int = 1, truncate: bool = True) -> list[Answer]:
        """Classify texts; one answer for each, in their order. A pair of texts is a tuple.

        workers: the texts that run at the same time, each on one thread; the longest first. With 1, they run one
        after another, each on all threads. truncate: cut texts that are too long, as in training; if not, they are
        refused. Raises `EatError` if a text is empty, too long, or no text, or its probabilities are NaN.
        """
        _require_whole("workers", workers, 1)
        encodings = self.encode(texts)
        if not truncate:
            _require_whole_texts(encodings)
        if workers == 1 or len(encodings) < 2:
            return [self._answer(self._sessions.alone, *item) for item in enumerate(encodings)]
        from concurrent.futures import ThreadPoolExecutor

        session = self._sessions.pooled()
        order = sorted(range(len(encodings)), key=lambda row: -len(encodings[row]))
        with ThreadPoolExecutor(workers) as pool:
            calls = {row: pool.submit(self._answer, session, row, encodings[row]) for row in order}
            try:
                return [calls[row].result() for row in range(len(encodings))]
            except BaseException:  # also an interrupt, which must not wait for all texts
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def too_long(self, texts: Sequence[Text]) -> list[bool]:
        """Whether each text has more tokens than are read, so that it would be truncated. Raises as a call."""
        encodings = self._tokenizer.encode_batch(list(_checked(texts, self.manifest.pairs)))
        return [bool(encoding.overflowing) for encoding in encodings]

    def encode(self, texts: Sequence[Text]) -> list[Any]:
        """The texts as objects of the tokenizer, truncated, for `trace`. Raises `EatError` as a call does."""
        encodings: list[Any] = self._tokenizer.encode_batch(list(_checked(texts, self.manifest.pairs)))
        return encodings

    def trace(self, encoding: Any, full_depth: bool = False) -> Trace:
        """Classify one text of `encode`, and say which tokens were kept.

        full_depth: no early exit, whatever the thresholds; the model must be able to (`runs_at_full_depth`). Raises
        `EatError` if the probabilities are NaN.
        """
        return self._trace(self._sessions.alone, 0, encoding, self._full_depth if full_depth else self._feeds)

    @property
    def runs_at_full_depth(self) -> bool:
        """Whether `trace` can switch the early exits off: they have thresholds, or there are none."""
        return self.manifest.has_thresholds or not self.manifest.rule

    @property
    def _full_depth(self) -> dict[str, Any]:
        if not self.manifest.has_thresholds:
            return self._feeds
        return {**self._feeds, **point_feeds(self.manifest, 1.0, None, None)}

    def _answer(self, session: Any, number: int, encoding: Any) -> Answer:
        return self._trace(session, number, encoding, self._feeds).answer

    def _trace(self, session: Any, number: int, encoding: Any, feeds: Mapping[str, Any]) -> Trace:
        import numpy as np

        ids, types = (np.array(values, dtype=np.int64) for values in (encoding.ids, encoding.type_ids))
        probabilities, depth, reason, kept = session.run(list(OUTPUTS), {"ids": ids, "types": types, **feeds})
        if not np.isfinite(probabilities).all():
            raise EatError(
                f"text {number}: the model's probabilities are NaN, so there is no answer; its weights are damaged: "
                "train it again and export it"
            )
        best = int(probabilities.argmax())
        labels = self.manifest.labels
        answer = Answer(
            label=labels[best],
            probability=float(probabilities[best]),
            probabilities=dict(zip(labels, probabilities.tolist(), strict=True)),
            depth=int(depth[0]),
            exit_reason="+".join(self.manifest.rule) if reason[0] else LAST_LAYER,
        )
        return Trace(answer, len(ids), tuple(kept.tolist()))


class _Sessions:
    """The sessions of a model: one for texts alone, and one for texts that run at the same time."""

    def __init__(self, manifest: Manifest, threads: int, spinning: bool) -> None:
        self._manifest = manifest
        self._threads = threads
        self._spinning = spinning
        self._pooled: Any = None
        self.alone = self._open(threads)

    def pooled(self) -> Any:
        """A session whose calls have one thread each; it is opened when it is first needed."""
        if self._pooled is None:
            self._pooled = self.alone if self._threads == 1 else self._open(1)
        return self._pooled

    def _open(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not self._spinning:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        content = self._manifest.content(MODEL)
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's types have no public base
            reason = " ".join(str(error).split())
            raise EatError(
                f"{self._manifest.folder / MODEL}: onnxruntime {onnxruntime.__version__} cannot run this model "
                f"({reason[:300]}); update it: pip install --upgrade onnxruntime"
            ) from None


def usable_cores() -> int:
    """The cores that this process may use; ONNX Runtime's own default fails to bind threads where they are few."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tokenizer(manifest: Manifest, max_length: int) -> Any:
    """The tokenizer, which truncates at the end; of a pair, the longer text first."""
    from tokenizers import Tokenizer

    content = manifest.content(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        reason = " ".join(str(error).split())
        raise DamagedFile(
            f"{manifest.folder / TOKENIZER}: cannot be read ({reason[:300]}); update the library: "
            "pip install --upgrade tokenizers"
        ) from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    return tokenizer


def _checked(texts: Any, pairs: bool) -> Iterable[Text]:
    """The texts. Raises `EatError` that names the first that is no text, or is empty."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise EatError(f"found {type(texts).__name__}; give a list of texts, also for a single one: [text]")
    for number, text in enumerate(texts):
        parts = text if isinstance(text, tuple) else (text,)
        if not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
            raise EatError(f"text {number}: found {_shown(text)}; give a str, or a tuple of two for a pair")
        if len(parts) == 2 and not pairs:
            raise EatError(f"text {number}: a pair, but this model takes single texts; give a str")
        if not all(part.strip() for part in parts):
            raise EatError(f"text {number}: found {_shown(text)}, which is empty; leave it out")
        for part in parts:
            try:
                part.encode()
            except UnicodeEncodeError:
                raise EatError(f"text {number}: contains half of a surrogate pair; give valid Unicode") from None
        yield text if len(parts) == 2 else parts[0]


def _shown(text: Any) -> str:
    return repr(text) if len(repr(text)) < 60 else f"{repr(text)[:56]} ..."


def _require_whole_texts(encodings: Sequence[Any]) -> None:
    """Refuse texts that were truncated."""
    for number, encoding in enumerate(encodings):
        if encoding.overflowing:
            raise EatError(
                f"text {number}: has more than {len(encoding)} tokens, the most that are read; shorten it, load the "
                "model with a larger max_length, or let it be truncated"
            )


def _require_whole(name: str, value: Any, least: int, most: int | None = None, reason: str = "") -> None:
    """Refuse what is not a whole number from `least` to `most`."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        end = "on" if most is None else f"to {most}, {reason}"
        raise EatError(f"{name}: found {value!r}; give a whole number from {least} {end}")
