"""The packed forward pass of single texts as CUDA graphs, one for each length bucket and segment between two exits.

At batch 1 a GPU waits for the launches of a layer's kernels, which take longer than the kernels themselves. A CUDA
graph launches all kernels of a *segment* at once: embeddings to the first exit, that exit to the next, and so on
(`eat.engines.segments`). The host waits for the device once per exit and decides there whether the text exits. A model
without exits is one segment, so a dense model is one graph.

Tokens are removed between two segments, by the reducer's own code on the live tokens, and the next segment runs in the
bucket of the new length. Batches of several texts, and texts longer than the last bucket, run eagerly.

Graphs are used only on CUDA, and only if their logits agree with the eager packed pass there (`GraphedModel.fault`).
Elsewhere the same segments can be run without capture, to test them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eat.engines.engine import FullDepth, LoadedModel, Run, Runner
from eat.engines.packed import PackedModel, PackedRun
from eat.engines.segments import Cells, Segment, bucket_of, buckets_of, run_segment, segments_of
from eat.model.batch import PackedBatch
from eat.model.cascade import CascadeEncoder
from eat.model.encoder import EncoderOutput, PackedEncoder, Work
from eat.model.exit_policy import ExitPolicy
from eat.model.layout import Layout
from eat.model.reducers.base import Reducer, TokenView
from eat.model.reducers.observer import reducing_by
from eat.model.tokenizer import Encoded

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 8e-2}
"""The largest difference of two ways to compute a model's logits, relative to the largest logit.

Float16 rounds to 11 bits, in relative steps of 2^-11 or 5e-4. Both ways round after each operation, in a different
order, and the errors of 12 layers add up to a few steps; 20 are allowed. Bfloat16 has 3 bits less, so 8 times as much.
"""

WARM_UP = 3
"""Runs of a segment before its capture, in which libraries allocate their buffers."""


def capture_obstacle(encoder: PackedEncoder | CascadeEncoder) -> str | None:
    """Why a model cannot run in segments, in one line; `None` if it can."""
    if isinstance(encoder, CascadeEncoder):
        return "a cascade runs several models, and graphs are captured for one; use the packed engine"
    reducer = encoder.reducer
    if reducer.after and (reducer.place != "layer_output" or reducer.needs_received or reducer.needs_keys):
        return (
            f"the reducer {type(reducer).__name__} removes tokens within a layer, and graphs are captured for whole "
            "layers; use the packed engine"
        )
    return None


Launch = Callable[[], None]


class SegmentedEncoder:
    """A prepared encoder that runs one text at a time, segment by segment.

    captured: whether segments are CUDA graphs, captured when a bucket is first needed; otherwise they are run as they
    are.
    """

    def __init__(self, encoder: PackedEncoder, device: torch.device, captured: bool) -> None:
        self.encoder = encoder
        self.device = device
        self.captured = captured
        self.buckets = buckets_of(encoder.shape.positions)
        self._cells: dict[int, Cells] = {}
        self._launches: dict[tuple[Segment, int], Launch] = {}
        self._pool = torch.cuda.graph_pool_handle() if captured else None

    def cells(self, bucket: int) -> Cells:
        """The buffers of a bucket."""
        if bucket not in self._cells:
            self._cells[bucket] = Cells(bucket, self.encoder, self.device)
        return self._cells[bucket]

    def launch(self, segment: Segment, bucket: int) -> None:
        """Run a segment in a bucket; it is captured at the first call."""
        key = (segment, bucket)
        if key not in self._launches:
            cells = self.cells(bucket)

            def plain() -> None:
                run_segment(self.encoder, segment, cells)

            self._launches[key] = self._capture(plain, cells) if self.captured else plain
        self._launches[key]()

    def _capture(self, work: Launch, cells: Cells) -> Launch:
        """The replay of `work` as a graph. The runs before the capture change the state, which is put back."""
        before = cells.hidden.clone()
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        cells.hidden.copy_(before)
        return graph.replay

    @torch.inference_mode()
    def __call__(self, text: Encoded, policy: ExitPolicy | None = None, removes: bool = True) -> EncoderOutput:
        """Run one text, as `PackedEncoder.forward` runs a batch of one; all logits are on the host, in float32.

        removes: whether the reducer removes tokens. The text must fit into a bucket.
        """
        encoder, length = self.encoder, len(text.ids)
        bucket = bucket_of(length, self.buckets)
        assert bucket is not None
        given = self.cells(bucket)
        given.load(text)
        last = len(encoder.layers)
        output = EncoderOutput(torch.empty(0), depth=[last])
        seen: dict[int, Tensor] = {}
        origin: Tensor | None = None
        for segment in segments_of(encoder, policy is None or policy.may_exit):
            self.launch(segment, bucket)
            depth = segment.last
            output.work += [Work([0], [length], [length], [length]) for _ in range(segment.first, depth + 1)]
            if segment.has_head:
                logits = self.cells(bucket).logits.to("cpu", copy=True)  # the only wait for the device at this exit
                output.logits = logits
                if policy is None:
                    output.exits[depth] = logits
                elif depth < last:
                    seen[depth] = policy.probabilities(depth, logits)
                    if policy.fires(seen).tolist()[0]:
                        output.record_exit([0], depth)
                        break
            if removes and depth < last and encoder.reducer.acts("layer_output", depth):
                view = TokenView(
                    depth,
                    self.cells(bucket).hidden[:length],
                    Layout([length], self.device),
                    origin=origin,
                    batch_ids=given.ids[: len(text.ids)],
                    batch_layout=Layout([len(text.ids)], self.device),
                    separator=encoder.shape.separator,
                    wants_margin=False,
                )
                reduction = encoder.reducer.reduce(view)
                if reduction is None or reduction.kept is None:
                    continue
                kept = reduction.kept
                hidden = view.hidden.index_select(0, kept) if reduction.hidden is None else reduction.hidden
                origin = kept if origin is None else origin.index_select(0, kept)
                length = reduction.layout.tokens
                bucket = bucket_of(length, self.buckets)
                assert bucket is not None
                self.cells(bucket).take(hidden)
                output.work[-1].alive = [length]
        return output


class GraphedModel(LoadedModel):
    """A prepared model of this project that runs single texts as CUDA graphs, and everything else eagerly.

    capture: whether segments are captured as graphs; False runs them as they are, for tests and comparisons. fault:
    why the model runs eagerly only, in one line; `None` if it does not. It is also printed when it is found.
    """

    def __init__(self, packed: PackedModel, capture: bool = True) -> None:
        self.packed = packed
        self.labels, self.layers, self.exits = packed.labels, packed.layers, packed.exits
        self.fault = capture_obstacle(packed.encoder)
        self._checked: set[int] = set()
        self._segmented: SegmentedEncoder | None = None
        if isinstance(packed.encoder, PackedEncoder) and self.fault is None:
            weight = packed.encoder.embeddings.token.weight
            self._precision = str(weight.dtype).removeprefix("torch.")
            if capture and weight.device.type != "cuda":
                self.fault = f"graphs are captured on a GPU with CUDA, and the model is on {weight.device.type}"
            else:
                self._segmented = SegmentedEncoder(packed.encoder, weight.device, capture)
        self._report()

    def _report(self) -> None:
        if self.fault is not None:
            print(f"CUDA graphs are not used: {self.fault}", file=sys.stderr, flush=True)

    @property
    def buckets(self) -> tuple[int, ...]:
        """The lengths to which texts are padded; none if the model runs eagerly only."""
        return () if self._segmented is None else self._segmented.buckets

    def prepare(self, longest: int) -> GraphedModel:
        """Capture and check every bucket that texts of up to `longest` tokens need; returns itself."""
        for bucket in self.buckets:
            if bucket not in self._checked and self.fault is None:
                self._check(bucket)
            if bucket >= longest:
                break
        return self

    def _check(self, bucket: int) -> None:
        """Compare a bucket with the eager pass; above `TOLERANCE` the model runs eagerly from now on."""
        try:
            difference = self.difference(bucket)
        except RuntimeError as error:
            self.fault = f"capturing {bucket} tokens failed: {(str(error).splitlines() or ['no message'])[0]}"
        else:
            if not difference <= TOLERANCE[self._precision]:
                self.fault = f"at {bucket} tokens the logits differ by {difference:.1e} from those of the eager pass"
        self._checked.add(bucket)
        if self.fault is not None:
            self._segmented = None
            self._report()

    @torch.inference_mode()
    def difference(self, bucket: int) -> float:
        """The largest difference of the logits of all exits from the eager packed pass, relative to the largest logit.

        Random texts of the longest, a middle and the shortest length of the bucket. No tokens are removed, so that all
        segments run in this bucket, and a tie between two tokens cannot change the comparison; the removal is the
        reducer's own code in both passes.
        """
        segmented, encoder = self._segmented, self.packed.encoder
        assert segmented is not None
        assert isinstance(encoder, PackedEncoder)
        generator = torch.Generator().manual_seed(bucket)
        differences, largest = [], 0.0
        for length in dict.fromkeys((bucket, bucket - bucket // 4, bucket // 2 + 1)):
            ids = torch.randint(encoder.shape.vocabulary, (length,), generator=generator)
            text = Encoded(ids, torch.zeros_like(ids))
            with reducing_by(encoder, Reducer()):
                expected = encoder(PackedBatch.of([text], segmented.device)).exits
            found = segmented(text, removes=False).exits
            for depth, logits in expected.items():
                differences.append(float((found[depth] - logits.float().cpu()).abs().max()))
                largest = max(largest, float(logits.abs().max()))
            # without early exits the segments are others
            whole = segmented(text, ExitPolicy(), removes=False).logits
            differences.append(float((whole - expected[self.layers].float().cpu()).abs().max()))
        # NaN stays NaN
        return float(torch.tensor(differences).max()) / largest

    def runner(self, policy: ExitPolicy) -> Runner:
        """As `LoadedModel`; batches of several texts run eagerly."""
        eager, encoder = self.packed.runner(policy), self.packed.encoder

        def run(texts: Sequence[Encoded]) -> Run:
            segmented = self._of(texts)
            if segmented is None:
                return eager(texts)
            output = segmented(texts[0], policy)
            return PackedRun(output.logits.argmax(dim=-1).tolist(), output, encoder, policy)

        return run

    def _of(self, texts: Sequence[Encoded]) -> SegmentedEncoder | None:
        """What runs these texts in segments; `None` if they run eagerly."""
        if len(texts) != 1 or bucket_of(len(texts[0].ids), self.buckets) is None:
            return None
        self.prepare(len(texts[0].ids))
        return self._segmented

    def full_depth(self, texts: Sequence[Encoded]) -> FullDepth:
        """As `LoadedModel`, eagerly."""
        return self.packed.full_depth(texts)

    def shape(self) -> dict[str, Any]:
        """As `LoadedModel`."""
        return self.packed.shape()

    def pairs(self, tokens: int) -> tuple[int, int]:
        """As `LoadedModel`, without padding."""
        return self.packed.pairs(tokens)
