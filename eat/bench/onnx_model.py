"""Stock BERT as a file for ONNX Runtime or OpenVINO.

For ONNX Runtime in its usual form: exported, fused, and for int8 dynamically quantised.

The eager model with its mask is exported, because only in that graph (and not in that of sdpa, or without a mask) the
optimizer of ONNX Runtime 1.31 finds what it fuses: one `EmbedLayerNormalization`, an `Attention` a layer,
`SkipLayerNormalization` and `BiasGelu`. The fused model is quantised, not the other way round, which gives `QAttention`
and integer products.

For OpenVINO as exported, because it fuses while it loads a file. int8 means that weights have 8 bits and one scale for
each output (`DequantizeLinear`), which OpenVINO 2026.4.1 keeps. Other forms were tried by hand on an AMD EPYC (AVX2, no
VNNI) and left: weights compressed by NNCF, which take as long; weights and activations quantised by NNCF on samples,
which is slower and less exact; and the graph that ONNX Runtime quantises dynamically, which is slower, since OpenVINO
does not know `QAttention`. On processors with VNNI or AMX the order may differ.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from eat.errors import EatError

OPSET = 17


class _Logits(nn.Module):
    """A stock model with positional inputs that returns a plain tensor."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        return logits


def _export(model: PreTrainedModel, path: Path) -> None:
    """Write a stock BERT with eager attention as an ONNX file; inputs `ids`, `mask`, `types`, int64 (B, T)."""
    ids = torch.ones(2, 8, dtype=torch.int64)
    names = ["ids", "mask", "types"]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the newer exporter needs another package, and its graphs cannot be fused
        torch.onnx.export(
            _Logits(model).eval(),
            (ids, ids, torch.zeros_like(ids)),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
        )


def write_onnx(model: PreTrainedModel, precision: str, path: Path) -> None:
    """Write a stock BERT with eager attention as a fused ONNX file for ONNX Runtime; inputs as in `_export`.

    Raises `EatError` if an attention was not fused, since the baseline must be at its best.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    plain = path.with_suffix(".plain.onnx")
    fused = path.with_suffix(".fused.onnx") if precision == "int8" else path
    _export(model, plain)
    logging.getLogger("onnxruntime").setLevel(logging.ERROR)
    config = model.config
    optimized = optimizer.optimize_model(
        str(plain),
        "bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=FusionOptions("bert"),
        opt_level=1,
    )
    found = Counter(node.op_type for node in optimized.model.graph.node)
    if found["Attention"] != config.num_hidden_layers:
        raise EatError(
            f"ONNX Runtime fused {found['Attention']} of {config.num_hidden_layers} attentions; "
            "use the versions of constraints.txt"
        )
    if precision == "float16":
        # what goes in and out keeps its type
        optimized.convert_float_to_float16(keep_io_types=True)
    optimized.save_model_to_file(str(fused))
    plain.unlink()
    if precision == "int8":
        _quantize(fused, path)
        fused.unlink()


def _quantize(fused: Path, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it logs advice to the root logger
    quantize_dynamic(
        str(fused),
        str(path),
        op_types_to_quantize=["MatMul", "Gemm", "Attention"],
        weight_type=QuantType.QInt8,
        # the shape inference of plain ONNX does not support the output types of fused operators
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def write_openvino(model: PreTrainedModel, precision: str, path: Path) -> None:
    """Write a stock BERT with eager attention as an ONNX file for OpenVINO; inputs as in `_export`."""
    _export(model, path)
    if precision == "int8":
        _quantize_weights(path)


def _quantize_weights(path: Path) -> None:
    """Replace the weight (in, out) of each product of a file by int8 values and their scales.

    The head's two products (`Gemm`), which one token a text passes through, keep float32.
    """
    import onnx
    from onnx import helper, numpy_helper

    from eat.model.products_onnx import quantize_rows

    model = onnx.load(path)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    for name in {node.input[1] for node in products}:
        quantized = quantize_rows(numpy_helper.to_array(weights[name]).T)
        graph.initializer.remove(weights[name])
        parts = {f"{name}.int8": quantized.whole.T, f"{name}.scale": quantized.scale}
        graph.initializer.extend(numpy_helper.from_array(values, part) for part, values in parts.items())
        graph.node.insert(0, helper.make_node("DequantizeLinear", list(parts), [name], axis=1))
    onnx.save(model, path)
