"""Classifying a corpus of any size with an exported model, a chunk of rows at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eat.errors import DamagedFile, EatError
from eat.files import sha256_of
from eat.interrupts import Ended
from eat.predict.corpus import Chunk, Corpus
from eat.predict.options import PredictOptions
from eat.predict.output import Output, PartialFile, Printed, Tally
from eat.progress import Progress
from eat.runtime.classifier import LAST_LAYER, AdaptiveClassifier, Answer
from eat.runtime.manifest import MODEL, TOKENIZER, Manifest, read_manifest


def predict(options: PredictOptions) -> str:
    """Classify all texts, and return a line that says what was done.

    Raises `EatError` if an option is not allowed, the folder holds no export, the corpus cannot be read or the output
    not written. `FILE.partial` then stays only if `--resume` can go on with it.
    """
    manifest = read_manifest(options.folder)
    corpus = _corpus(options)
    _require_fit(manifest, options)
    corpus.check_labels(manifest.labels)
    # with several workers each text has one thread, in one session
    threads = None if options.threads == 1 else 1
    classify = AdaptiveClassifier.load(options.folder, threads=threads, tau=options.tau, max_length=options.max_length)
    before = _state_of(options.path)
    total = corpus.scan()
    began = time.monotonic()
    if options.to is None:
        tally = _run(options, corpus, classify, Printed(), Tally(), total)
        there = 0
    else:
        run = None if options.path is None else _identity(options, manifest)
        output = PartialFile(options.to, run, options.resume, options.overwrite)
        is_whole = False
        try:
            there = output.tally.rows
            tally = _run(options, corpus, classify, output, output.tally, total)
            if _state_of(options.path) != before:
                raise DamagedFile(f"{corpus.where}: changed while it was read; begin again with --overwrite")
            corpus.finish(output.path, options.to)
            is_whole = True
        except Ended as ended:
            ended.add_note(output.interrupted())
            raise
        finally:
            output.close(is_whole)
    return _summary(tally, tally.rows - there, time.monotonic() - began, manifest.exits[-1])


def _corpus(options: PredictOptions) -> Corpus:
    if options.kind == "parquet":
        from eat.predict.parquet_corpus import ParquetCorpus

        return ParquetCorpus(options)
    from eat.predict.text_corpus import TextCorpus

    return TextCorpus(options)


def _require_fit(manifest: Manifest, options: PredictOptions) -> None:
    """Refuse pairs for a model of single texts, and single texts for a model of pairs."""
    given = max(len(options.columns), 1)
    if given == 2 and (not manifest.pairs or manifest.texts == 1):
        raise EatError(f"{options.folder}: a model of single texts, and --text is given twice; give one column")
    if given == 1 and manifest.texts == 2:
        raise EatError(f"{options.folder}: a model of pairs of texts; give the second column with --text")


def _identity(options: PredictOptions, manifest: Manifest) -> dict[str, Any]:
    """What determines the output, by names for messages. The workers and the size of a chunk change only rounding."""
    assert options.path is not None
    return {
        "input": sha256_of(options.path),
        "model": [manifest.digests[name] for name in (MODEL, TOKENIZER)],
        "--tau": options.tau,
        "--max-length": options.max_length,
        "--truncate": options.truncate,
        "--text": list(options.columns),
        "--format": options.kind,
        "form of the input": asdict(options.form),
        "--prefix": options.prefix,
    }


def _state_of(path: Path | None) -> tuple[int, int] | None:
    """The size of a file and the time of its last change."""
    if path is None:
        return None
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _run(
    options: PredictOptions,
    corpus: Corpus,
    classify: AdaptiveClassifier,
    output: Output,
    tally: Tally,
    total: int | None,
) -> Tally:
    """Classify and write chunk by chunk; returns the tally of all rows. tally: of the rows that are there already."""
    began, there = time.monotonic(), tally.rows
    head = corpus.head()  # also if it is there already: an encoder then begins no file
    with Progress("classified", total, "rows") as progress:
        progress.begin(total, there)
        for chunk in corpus.chunks(options.batch, there):
            answers, tally = _answered(options, corpus, classify, chunk, tally)
            content = corpus.lines(chunk, answers)
            output.add(head + content if tally.rows == len(answers) else content, tally)
            rate = (tally.rows - there) / (time.monotonic() - began)
            progress.detail = f"{rate:.0f} texts/s" if total else f"{tally.rows} rows, {rate:.0f} texts/s"
            progress.advance(len(answers))
    return tally


def _answered(
    options: PredictOptions, corpus: Corpus, classify: AdaptiveClassifier, chunk: Chunk, tally: Tally
) -> tuple[Sequence[Answer | None], Tally]:
    """The answers to a chunk, in its order, `None` for a text without one; and the tally with them."""
    rows = [row for row, text in enumerate(chunk.texts) if text is not None]
    texts = [text for text in chunk.texts if text is not None]
    empty = len(chunk.texts) - len(texts)
    if empty and options.strict:
        row = next(row for row, text in enumerate(chunk.texts) if text is None)
        raise EatError(
            f"{corpus.where}, {corpus.unit} {chunk.numbers[row]}: an empty text; add it, or leave --strict out"
        )
    too_long = [False] * len(texts) if options.truncate else classify.too_long(texts)
    if any(too_long) and options.strict:
        row = rows[too_long.index(True)]
        raise EatError(
            f"{corpus.where}, {corpus.unit} {chunk.numbers[row]}: a text of more tokens than the model reads; shorten "
            "it, give a larger --max-length, or leave --no-truncate or --strict out"
        )
    short = [place for place, is_long in enumerate(too_long) if not is_long]
    found = classify([texts[place] for place in short], workers=options.threads)
    answers: list[Answer | None] = [None] * len(chunk.texts)
    for place, answer in zip(short, found, strict=True):
        answers[rows[place]] = answer
    return answers, replace(
        tally,
        rows=tally.rows + len(answers),
        empty=tally.empty + empty,
        too_long=tally.too_long + sum(too_long),
        layers=tally.layers + sum(answer.depth for answer in found),
        early=tally.early + sum(answer.exit_reason != LAST_LAYER for answer in found),
    )


def _summary(tally: Tally, done: int, seconds: float, layers: int) -> str:
    """The last line. done: the rows of this run."""
    parts = [f"{tally.rows} rows", f"{done / max(seconds, 1e-9):.0f} texts/s"]
    if tally.answered:
        parts.append(f"{tally.layers / tally.answered:.2f} of {layers} layers on average")
        parts.append(f"{100 * tally.early / tally.answered:.1f} % exited early")
    parts.append(f"{tally.empty} rows without a text")
    if tally.too_long:
        parts.append(f"{tally.too_long} texts too long")
    return ", ".join(parts)
