"""`eat adapt`: one ONNX file that exits early, from any fine-tuned classifier and texts without labels.

Heads on the frozen model learn its own answers. A threshold is chosen so that the file, int8 included, disagrees with
the given model in float32 on few texts like those given. The texts are divided by their hash: 60 % teach the heads,
on 30 % the threshold is chosen, and the promise is shown on the last 10 %.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from eat.adapt.model import keep_heads, load_given, model_folder, with_fresh_heads
from eat.adapt.options import SHARES, AdaptOptions
from eat.adapt.table import summary_table
from eat.adapt.teaching import teach, useful_heads
from eat.adapt.texts import DividedTexts, picked, read_texts
from eat.adapt.timing import compare_speed
from eat.calibrate.disagreement import Choice, ExitAnswers, choose_threshold
from eat.engines.onnx import open_session, text_feeds
from eat.errors import EatError
from eat.export.folder import check_target, model_bytes, write_export
from eat.export.source import Source, require_distinct_labels
from eat.files import digest, only_one, read_json, replacing, sha256_of, write_json
from eat.finetune.frozen_heads import vectors_and_logits
from eat.model.checkpoints import weight_files
from eat.model.encoder_onnx import operating_graph, products_of, trace_graph
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.products_onnx import Products
from eat.model.tokenizer import Encoded, encode, load_tokenizer, require_embeddings
from eat.monitor.profile import learn_profile
from eat.progress import Progress, counted, warn

RULE = ("confidence",)

PROFILE_TEXTS, PROFILE_RESAMPLES = 2000, 300
"""The most texts of the reference profile, and the resamples that measure its false alarms."""

STATE_FORMAT = 1
"""Of the state folder; it rises when an older state must not be used."""


def adapt(options: AdaptOptions) -> str:
    """Adapt a model, write the export, and return the table that says what was found.

    Raises `EatError` if the model is no classifier of a supported architecture, there are too few texts, or an option
    does not fit, before anything is computed; `DamagedFile` if a file is broken.
    """
    check_target(options.to)
    folder = model_folder(options.model, options.revision)
    model = load_given(folder)
    require_distinct_labels(model, folder)
    texts = read_texts(options)
    positions = model.encoder.shape.positions
    max_length = positions if options.max_length is None else options.max_length
    if max_length > positions:
        raise EatError(f"--max-length: found {max_length}, but {options.model} has {positions} positions; lower it")
    layers = model.config.num_hidden_layers
    if layers < 2:
        raise EatError(f"{options.model}: has one layer, after which no text can exit early; export it with eat export")
    tokenizer = load_tokenizer(folder)
    require_embeddings(tokenizer, folder, model.encoder.shape, max_length, pairs=texts.second is not None)
    state = options.to.with_name(f"{options.to.name}.partial")
    with only_one(state.with_name(f".{state.name}.lock"), f"adapts a model to {options.to}"):
        _open_state(state, _fingerprint(options, folder, texts, max_length))
        encoded = {
            part: encode(tokenizer, picked(texts.first, rows) or [], picked(texts.second, rows), max_length)
            for part, rows in texts.rows.items()
        }
        products = _teach(model, encoded["teach"], state, options)
        answers = {part: _answers(model, products, encoded[part], part, state) for part in ("choose", "show")}
        choice = choose_threshold(answers["choose"], options.disagreement, options.delta)
        table = _write(options, folder, model, products, choice, answers, encoded["show"], max_length)
        _save_profile(options.to, texts)
    shutil.rmtree(state)
    return table


def _save_profile(to: Path, texts: DividedTexts) -> None:
    """Save the reference profile of `eat monitor` from texts that taught no head."""
    rows = np.sort(np.concatenate([texts.rows["choose"], texts.rows["show"]]))
    first, second = picked(texts.first, rows) or [], picked(texts.second, rows)
    learn_profile(
        to, first if second is None else list(zip(first, second, strict=True)), PROFILE_RESAMPLES, PROFILE_TEXTS
    )


def _fingerprint(options: AdaptOptions, folder: Path, texts: DividedTexts, max_length: int) -> dict[str, Any]:
    """What determines the state; another state is not continued."""
    weights = [*weight_files(folder), folder / "config.json", *sorted(folder.glob("tokenizer.json"))]
    return {
        "format": STATE_FORMAT,
        "model": digest({file.name: sha256_of(file) for file in weights}),
        "texts": texts.digest,
        "columns": list(options.columns),
        "form": asdict(options.form),
        "precision": options.precision,
        "max_length": max_length,
        "seed": options.seed,
        # on it depends which heads are kept
        "disagreement": options.disagreement,
    }


def _open_state(state: Path, fingerprint: Mapping[str, Any]) -> None:
    """Keep the state of the same run, or begin a new one."""
    record = state / "run.json"
    if record.is_file() and read_json(record) == fingerprint:
        print(f"going on with {state}", flush=True)
        return
    if state.exists():
        shutil.rmtree(state)
    write_json(record, fingerprint)


def _teach(
    model: EatForSequenceClassification, texts: Sequence[Encoded], state: Path, options: AdaptOptions
) -> Products:
    """Add heads to the model, in place, and return the products of the precision."""
    depths = list(range(1, model.config.num_hidden_layers))
    heads = with_fresh_heads(model, depths, options.seed)
    logits = teach(model.encoder, heads, texts, state, options.seed)
    kept = useful_heads(heads, state, logits, options.disagreement / 2)
    keep_heads(model, {depth: heads[depth] for depth in kept})
    with Progress(f"preparing {options.precision} weights"):
        return products_of(model.encoder, options.precision)


def _answers(
    model: EatForSequenceClassification, products: Products, texts: Sequence[Encoded], part: str, state: Path
) -> ExitAnswers:
    """The answers of every exit of the file to some texts, compared with those of the given model in float32."""
    kept = state / f"answers_{part}.npz"
    exits = list(model.config.exits)
    if not kept.is_file():
        session = open_session(trace_graph(model.encoder, products).model.SerializeToString(), torch.get_num_threads())
        logits = np.empty((len(texts), len(exits), model.config.num_labels), np.float32)
        for row, text in enumerate(counted("ran the file on", texts, "texts")):
            (logits[row],) = session.run(["logits"], text_feeds(text))
        full = _full_depth(model, texts)
        with replacing(kept) as temporary, open(temporary, "wb") as file:
            np.savez(file, logits=logits, full=full)
    with np.load(kept) as found:
        logits, full = found["logits"], found["full"]
    certainty = torch.softmax(torch.from_numpy(logits[:, :-1]), dim=-1).amax(dim=-1).double().numpy()
    differs = logits.argmax(axis=2) != full[:, None]
    return ExitAnswers(certainty, differs, np.tile(np.array(exits, np.float64), (len(texts), 1)))


def _full_depth(model: EatForSequenceClassification, texts: Sequence[Encoded]) -> npt.NDArray[np.int64]:
    """The classes that the given model answers, in float32."""
    _, logits = vectors_and_logits(model.encoder, texts, [])
    classes: npt.NDArray[np.int64] = logits.argmax(axis=1)
    return classes


def _write(
    options: AdaptOptions,
    folder: Path,
    model: EatForSequenceClassification,
    products: Products,
    choice: Choice,
    answers: Mapping[str, ExitAnswers],
    shown: Sequence[Encoded],
    max_length: int,
) -> str:
    """Time the file and its dense rival, write the export, and return the table."""
    early = choice.kept and choice.may_exit
    policy = ExitPolicy(RULE, choice.thresholds[0]) if early else ExitPolicy()
    if not early:
        warn(_no_saving(options, choice))
    source = Source(Path(options.model).name, [folder], model, policy, "adapted" if early else "dense", max_length)
    content = model_bytes(source, products)
    dense = operating_graph(model.encoder, ExitPolicy(), products).SerializeToString()
    speed = compare_speed(dense, content, shown)
    held_out = answers["show"]
    thresholds = choice.thresholds if early else [1.0] * len(choice.thresholds)
    seen = {
        "n": len(held_out),
        "differing": int(held_out.disagreement(thresholds).sum()),
        "differing_at_full_depth": int(held_out.differs[:, -1].sum()),
        "mean_depth": held_out.mean_cost(thresholds),
    }
    about = {
        "texts": max(len(options.columns), 1),
        "promised": {
            "risk": "disagreement",
            "epsilon": options.disagreement,
            "delta": round(options.delta, 6),
            "n": choice.n,
            "tau": choice.thresholds[0],
        }
        if early
        else None,
        "adapted": {
            "model": options.model,
            "texts": options.texts.name,
            "chosen_on": {"n": choice.n, "differing": choice.differing, "p": choice.p},
            "shown": seen,
            "speed": asdict(speed),
        },
    }
    write_export(source, content, folder, options.to, options.precision, about)
    return summary_table(options, model.config, choice, early, seen, speed, len(content))


def _no_saving(options: AdaptOptions, choice: Choice) -> str:
    """Why no text exits early."""
    asked = f"a disagreement of at most {options.disagreement:g} with a confidence of {options.confidence:g}"
    if choice.kept:
        return f"no threshold saves anything at {asked}; the export is the model without exits"
    at = f"at full depth {options.precision} alone differs on {choice.differing} of {choice.n} texts"
    remedy = "give --precision float32, or a larger --disagreement"
    if choice.needed is not None:
        remedy = f"about {round(choice.needed / SHARES['choose'])} texts would do; or {remedy}"
    return f"{asked} cannot be promised: {at}; the export is the model without exits. {remedy[0].upper()}{remedy[1:]}"
