"""The timed entries: each system at each of its operating points, and the baselines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eat.engines.precision import prepare_stock
from eat.engines.registry import engine_of
from eat.engines.stock import StockModel
from eat.files import read_json
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.weights import to_stock
from eat.results.calibrated import Promised
from eat.results.replay import policies
from eat.results.trace import Trace
from eat.study.stock import STOCK, STOCK_AGAIN, STOCK_SORTED, stock_deep
from eat.study.study import Study
from eat.timing.agreement import expected_of, require_same_setting
from eat.timing.entry import Entry
from eat.timing.timed_texts import TimedTexts


@dataclass(frozen=True)
class TimedSystem:
    """A trained system: its model folder (for a cascade, one per member), its dev trace and its calibration.

    temperatures: layer -> T of its head. promised: the threshold that keeps the system's promise, if it has one.
    """

    system: str
    seed: int
    models: Sequence[Path]
    trace: Path
    temperatures: Mapping[int, float]
    promised: Promised | None = None


def trained_in(systems: Sequence[TimedSystem]) -> dict[str, list[str]]:
    """The precisions and devices in which the models of each system were trained, as recorded by the models."""
    found: dict[str, dict[str, None]] = {}
    for timed in systems:
        for folder in timed.models:
            setting = read_json(folder / "config.json").get("trained")
            if setting:
                found.setdefault(timed.system, {})[f"{setting['precision']} on {setting['device']}"] = None
    return {system: list(settings) for system, settings in found.items()}


def entries_of(study: Study, timed: TimedSystem, texts: TimedTexts, device: torch.device) -> list[Entry]:
    """The entries of a trained system: one per threshold.

    Raises `EatError` if it was traced on another device or in another precision.
    """
    parts = study.parts(timed.system)
    model = engine_of(parts.engine).load(timed.models, parts, device)
    trace = Trace.read(timed.trace)
    require_same_setting(timed.system, trace, device, parts.precision)
    encoded = texts.encoded_for(timed.models[0])
    points = policies(study.operating_spec(timed.system), timed.temperatures, timed.promised)
    return [
        Entry(
            timed.system,
            timed.seed,
            tau,
            parts.engine,
            parts.precision,
            encoded,
            model.runner(policy),
            expected_of(trace, policy),
        )
        for tau, policy in points.items()
    ]


def reference_entries(
    study: Study, timed: TimedSystem, texts: TimedTexts, device: torch.device, left_out: Collection[str] = ()
) -> list[Entry]:
    """Stock `transformers` with the reference's weights, in several ways.

    In the reference's precision: plain, a second time (A/A), and sorted by length. For latency only: in other
    precisions, and with more layers of random weights. left_out: the stock rows whose precision this machine refuses.
    Raises `EatError` as `entries_of` does.
    """
    parts = study.parts(timed.system)
    encoded = texts.encoded_for(timed.models[0])
    full = ExitPolicy()
    trace = Trace.read(timed.trace)
    require_same_setting(timed.system, trace, device, parts.precision)

    def entry(name: str, precision: Any, **how: Any) -> Entry:
        of_precision = parts.model_copy(update={"precision": precision})
        model = engine_of("stock").load(timed.models, of_precision, device)
        return Entry(name, timed.seed, None, "stock", precision, encoded, model.runner(full), **how)

    plain = entry(STOCK, parts.precision, expected=expected_of(trace, full))
    entries = [
        plain,
        replace(plain, system=STOCK_AGAIN),
        replace(plain, system=STOCK_SORTED, sort=True, sizes="larger"),
    ]
    rivals = [rival for rival in study.timing.stock if rival.engine == "stock" and rival.name not in left_out]
    entries += [entry(rival.name, rival.precision) for rival in rivals]
    if study.timing.deep_layers:
        name = stock_deep(study.timing.deep_layers)
        deep = _deeper(load_model(timed.models[0], parts), study.timing.deep_layers)
        stock = to_stock(deep.encoder, [deep.config.id2label[index] for index in range(deep.encoder.shape.classes)])
        prepare_stock(stock, parts.precision, device)
        runner = StockModel(stock, device).runner(full)
        entries.append(Entry(name, timed.seed, None, "stock", parts.precision, encoded, runner, sizes="one"))
    return entries


def _deeper(model: EatForSequenceClassification, layers: int) -> EatForSequenceClassification:
    """A dense model of the same width with this number of layers and random weights, for latency only."""
    config = model.config.__class__(
        **{
            **model.config.to_dict(),
            "shape": {**model.config.shape, "layers": layers},
            "exits": [layers],
        }
    )
    deep: EatForSequenceClassification = EatForSequenceClassification(config)
    deep.eval()
    return deep
