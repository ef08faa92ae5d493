"""Stock BERT for ONNX Runtime in its usual form: exported, fused, and for int8 dynamically quantised.

The eager model with its mask is exported, because only in that graph (and not in that of sdpa, or without a mask) the
optimizer of ONNX Runtime 1.31 finds what it fuses: one `EmbedLayerNormalization`, an `Attention` a layer,
`SkipLayerNormalization` and `BiasGelu`. The fused model is quantised, not the other way round, which gives `QAttention`
and integer products.
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


def write_onnx(model: PreTrainedModel, precision: str, path: Path) -> None:
    """Write a stock BERT with eager attention as a fused ONNX file; inputs `ids`, `mask`, `types`, int64 (B, T).

    Raises `EatError` if an attention was not fused, since the baseline must be at its best.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    plain = path.with_suffix(".plain.onnx")
    fused = path if precision == "float32" else path.with_suffix(".fused.onnx")
    ids = torch.ones(2, 8, dtype=torch.int64)
    names = ["ids", "mask", "types"]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the newer exporter needs another package, and its graphs cannot be fused
        torch.onnx.export(
            _Logits(model).eval(),
            (ids, ids, torch.zeros_like(ids)),
            str(plain),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
        )
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
