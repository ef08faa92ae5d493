"""A builder of ONNX graphs with branches.

The graphs are written node by node, with the fused operators of ONNX Runtime (domain `com.microsoft`), since its
optimizer does not fuse within a branch. A value is the name of a tensor.

A weight is an initialiser of the branch that uses it. ONNX Runtime (1.31) packs constant weights of products when it
loads a model. Those that a branch within a branch reads by name from the main graph seem to be left out: a text that
passed five exits took 1.1 to 1.2 times as long as without exits; hardly longer since branches hold weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 17
"""The version of the standard operators."""

IR_VERSION = 8
"""The version of the file format that belongs to `OPSET`; older runtimes refuse a newer one."""

FUSED = frozenset(
    {
        "Attention",
        "BiasGelu",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "FastGelu",
        "FusedMatMul",
        "Gelu",
        "QAttention",
        "SkipLayerNormalization",
    }
)
"""The operators of ONNX Runtime that the graphs use; all others are standard."""

Value = str
"""The name of a tensor; an empty name omits an optional input."""

OMITTED: Value = ""

Described = tuple[npt.DTypeLike, Sequence[int | str]]
"""The dtype and the shape of an input or output; a dimension is a number, or a name if it varies."""


@dataclass(frozen=True)
class _Block:
    """The nodes and the initialisers of the main graph or of a branch."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[Value, onnx.TensorProto] = field(default_factory=dict)


class Graph:
    """A graph under construction. Nodes and weights are appended to the innermost open branch."""

    def __init__(self) -> None:
        self._blocks = [_Block()]
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._count = 0

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """Append a node with one output, which is returned."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Value, **attributes: Any) -> list[Value]:
        """Append a node with several outputs, which are returned."""
        names = [self._new(kind) for _ in range(outputs)]
        domain = "com.microsoft" if kind in FUSED else ""
        self._blocks[-1].nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def weight(self, name: str, values: npt.NDArray[Any]) -> Value:
        """An initialiser of this name, which an open branch holds already or the innermost one gets."""
        if not any(name in block.weights for block in self._blocks):
            self._blocks[-1].weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def constant(self, value: Any, dtype: npt.DTypeLike) -> Value:
        """A small initialiser of the main graph; equal ones are shared."""
        values = np.asarray(value, dtype=dtype)
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._blocks[0].weights[name] = numpy_helper.from_array(values, name)
            self._constants[key] = name
        return self._constants[key]

    def whole(self, *values: int) -> Value:
        """A constant vector of integers; int64 (n,)."""
        return self.constant(values, np.int64)

    def number(self, value: float) -> Value:
        """A constant; float32 ()."""
        return self.constant(value, np.float32)

    def branch(
        self, condition: Value, then: Callable[[], Sequence[Value]], other: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """An `If` on a bool (); of the two branches only one is executed.

        then, other: append the nodes of a branch and return its values, as many as the other.
        """
        bodies = []
        count = 0
        for name, build in (("then", then), ("else", other)):
            with self._block() as block:
                # an output of a branch must be made in it
                values = [self.op("Identity", value) for value in build()]
            count = len(values)
            outputs = [helper.make_empty_tensor_value_info(value) for value in values]
            weights = list(block.weights.values())
            bodies.append(helper.make_graph(block.nodes, self._new(name), [], outputs, weights))
        return self.ops("If", count, condition, then_branch=bodies[0], else_branch=bodies[1])

    @contextmanager
    def _block(self) -> Iterator[_Block]:
        self._blocks.append(_Block())
        try:
            yield self._blocks[-1]
        finally:
            self._blocks.pop()

    def _new(self, kind: str) -> Value:
        self._count += 1
        return f"{kind}_{self._count}"

    def model(
        self,
        inputs: Mapping[str, Described],
        outputs: Mapping[str, tuple[Value, npt.DTypeLike, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        """The finished model.

        inputs: name -> dtype and shape; one that is also a weight has that as its default. outputs: name -> value,
        dtype and shape.
        """
        for name, (value, _, _) in outputs.items():
            self._blocks[0].nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self._blocks[0].nodes,
            "eat",
            [_described(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
            [_described(name, dtype, shape) for name, (_, dtype, shape) in outputs.items()],
            list(self._blocks[0].weights.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="eat")


def _described(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
