"""The engine `onnx`: ONNX Runtime on the CPU, one text a call.

A model at an operating point is one graph with its exits inside (`eat.model.encoder_onnx`). A batch is a pool of calls:
texts run at the same time, each on one thread, the longest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from eat.engines.engine import Engine, FullDepth, LoadedModel, Run, Runner
from eat.engines.packed import PackedModel, executed_flops
from eat.errors import listed
from eat.model.cascade import load_system
from eat.model.encoder_onnx import ANSWER, INPUTS, operating_graph, products_of, trace_graph
from eat.model.exit_policy import ExitPolicy
from eat.model.exit_rules_onnx import threshold_table
from eat.model.options import Parts
from eat.model.products_onnx import PRODUCTS
from eat.model.tokenizer import Encoded

Feeds = dict[str, npt.NDArray[Any]]


class OnnxRun(Run):
    """The outputs of the graph for each text, by the names of `eat.model.encoder_onnx.ANSWER`."""

    def __init__(self, answers: Sequence[dict[str, npt.NDArray[Any]]], model: OnnxModel, lengths: list[int]) -> None:
        super().__init__([int(answer["logits"].argmax()) for answer in answers])
        self._answers = answers
        self._model = model
        self._lengths = lengths

    def logits(self) -> Tensor:
        """As `Run`."""
        return torch.from_numpy(np.stack([answer["logits"] for answer in self._answers]))

    def probabilities(self) -> Tensor:
        """As `Run`."""
        return torch.from_numpy(np.stack([answer["probabilities"] for answer in self._answers]))

    def depth(self) -> list[int]:
        """As `Run`."""
        return [int(answer["depth"][0]) for answer in self._answers]

    def tokens(self) -> list[int]:
        """As `Run`."""
        return [int(answer["fed"].sum()) for answer in self._answers]

    def flops(self) -> float:
        """As `Run`; only the last head is counted."""
        found = zip(self._answers, self._lengths, strict=True)
        return sum(self._model.flops(answer["fed"], length) for answer, length in found)


class OnnxModel(LoadedModel):
    """A model of this project, or a cascade, as graphs that are built and loaded when they are first needed.

    precision: float32 or int8. The graphs are loaded with as many threads as PyTorch uses then.
    """

    def __init__(self, packed: PackedModel, precision: str) -> None:
        self._packed = packed
        self._precision = precision
        self.labels, self.layers, self.exits = packed.labels, packed.layers, packed.exits
        self._products = cache(lambda: products_of(packed.encoder, precision))
        # one graph for all thresholds and temperatures of a rule
        self._point_sessions = cache(self._load_point)
        self._trace_session = cache(self._load_trace)

    def runner(self, policy: ExitPolicy) -> Runner:
        """As `LoadedModel`."""
        rule = policy.rule if policy.may_exit else ()
        alone, pooled, threads = self._point_sessions(rule, policy.patience)
        point = point_feeds(policy, self.exits, len(self.labels), alone)
        pool = ThreadPoolExecutor(threads)

        def run(texts: Sequence[Encoded]) -> OnnxRun:
            feeds = [{**text_feeds(text), **point} for text in texts]
            if len(feeds) == 1:
                answers = [alone.run(list(ANSWER), feeds[0])]
            else:
                order = sorted(range(len(texts)), key=lambda row: -len(texts[row].ids))
                calls = {row: pool.submit(pooled.run, list(ANSWER), feeds[row]) for row in order}
                answers = [calls[row].result() for row in range(len(texts))]
            named = [dict(zip(ANSWER, answer, strict=True)) for answer in answers]
            return OnnxRun(named, self, [len(text.ids) for text in texts])

        return run

    def _load_point(self, rule: tuple[str, ...], patience: int) -> tuple[Any, Any, int]:
        """The sessions of a rule: for a text alone, and for one of several at the same time; and their number."""
        tau = 0.5 if rule else None
        policy = ExitPolicy(rule, tau, patience=patience)
        model = operating_graph(self._packed.encoder, policy, self._products()).SerializeToString()
        threads = torch.get_num_threads()
        return open_session(model, threads), open_session(model, 1), threads

    def _load_trace(self) -> tuple[Any, list[int]]:
        graph = trace_graph(self._packed.encoder, self._products())
        return open_session(graph.model.SerializeToString(), torch.get_num_threads()), graph.margin_layers

    def full_depth(self, texts: Sequence[Encoded]) -> FullDepth:
        """As `LoadedModel`."""
        session, margin_layers = self._trace_session()
        size = (len(texts), self.layers)
        logits = np.empty((len(texts), len(self.exits), len(self.labels)), dtype=np.float32)
        fed = np.empty(size, dtype=np.int32)
        cut_margin = np.full(size, np.inf)
        for row, text in enumerate(texts):
            logits[row], fed[row], *margins = session.run(None, text_feeds(text))
            if margins:
                cut_margin[row, margin_layers] = margins[0]
        lengths = np.array([len(text.ids) for text in texts], dtype=np.int32)[:, None]
        attended, alive = self._counts(fed, lengths)
        by_layer = {depth: logits[:, place] for place, depth in enumerate(self.exits)}
        return FullDepth(by_layer, attended, fed, alive, cut_margin)

    def _counts(self, fed: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> tuple[Any, Any]:
        """The tokens that enter attention, and those passed on, by layer; (B, L) each.

        fed: the tokens that enter the feed-forward part, (B, L). lengths: those of the input, (B, 1).
        """
        if self._packed.encoder.reducer.place == "after_attention":
            return np.concatenate([lengths, fed[:, :-1]], axis=1), fed
        if self._packed.encoder.reducer.place == "layer_input":
            return fed, fed
        return fed, np.concatenate([fed[:, 1:], fed[:, -1:]], axis=1)

    def flops(self, fed: npt.NDArray[np.int64], length: int) -> float:
        """Floating-point operations of a text, given the tokens that entered each executed feed-forward part."""
        attended, _ = self._counts(fed[None].astype(np.int32), np.array([[length]], dtype=np.int32))
        encoder = self._packed.encoder
        work = (([int(entered)], [int(count)]) for entered, count in zip(attended[0], fed, strict=True))
        return executed_flops(encoder, 1, work, lambda tokens: tokens * tokens)

    def shape(self) -> dict[str, Any]:
        """As `LoadedModel`."""
        return {**self._packed.shape(), "precision": self._precision, "engine": OnnxEngine.name}

    def pairs(self, tokens: int) -> tuple[int, int]:
        """As `LoadedModel`; a window is a mask."""
        return tokens * tokens, self._packed.pairs(tokens)[1]


class OnnxEngine(Engine):
    """ONNX Runtime on the CPU."""

    name = "onnx"

    def refusal(self, precision: str, device: torch.device) -> str | None:
        """As `Engine`."""
        if precision not in PRODUCTS:
            return f"precision {precision} in the engine onnx; it has {listed(PRODUCTS)}"
        if device.type != "cpu":
            return f"the engine onnx on {device.type}; it runs on the CPU: set the device to cpu"
        return None

    def load(self, folders: Sequence[Path], parts: Parts, device: torch.device) -> OnnxModel:
        """As `Engine`."""
        return OnnxModel(PackedModel(load_system(folders, parts)), parts.precision)


def open_session(model: bytes | str, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU of a model, or of its file.

    Its threads wait without spinning after a call, which would disturb other engines.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def text_feeds(text: Encoded) -> Feeds:
    """The inputs of a text."""
    return {name: values.numpy() for name, values in zip(INPUTS, text, strict=True)}


def point_feeds(policy: ExitPolicy, exits: Sequence[int], classes: int, session: Any) -> Feeds:
    """The inputs of an operating point that a session takes."""
    temperatures = [policy.temperatures.get(depth, 1.0) for depth in exits]
    feeds = {
        "temperatures": np.array(temperatures, dtype=np.float32),
        "thresholds": threshold_table(policy, exits, classes),
    }
    known = {given.name for given in session.get_overridable_initializers()}
    return {name: values for name, values in feeds.items() if name in known}
