"""The engines by name."""

from __future__ import annotations

from eat.engines.engine import Engine
from eat.errors import EatError, listed

NAMES = ("torch", "onnx", "stock")


def engine_of(name: str) -> Engine:
    """The engine of a name. Raises `EatError` if there is none.

    Each engine is imported on request, so that none needs the libraries of another.
    """
    if name == "torch":
        from eat.engines.packed import PackedEngine

        return PackedEngine()
    if name == "onnx":
        from eat.engines.onnx import OnnxEngine

        return OnnxEngine()
    if name == "stock":
        from eat.engines.stock import StockEngine

        return StockEngine()
    raise EatError(f"engine {name!r} is unknown; known: {listed(NAMES)}")
