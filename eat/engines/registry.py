"""The engines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eat.errors import EatError, listed

if TYPE_CHECKING:
    import torch

    from eat.engines.engine import Engine

PACKAGE = "eat.engines"

MODULES = {"torch": f"{PACKAGE}.packed", "onnx": f"{PACKAGE}.onnx", "stock": f"{PACKAGE}.stock"}
"""Name of an engine -> its module. What a row's engine does not import does not make its traces outdated."""


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
    raise EatError(f"engine {name!r} is unknown; known: {listed(MODULES)}")


def require_usable(engine: str, precision: str, device: torch.device) -> None:
    """Raise `EatError`, in one line with the remedy, if an engine does not run in a precision on a device."""
    reason = engine_of(engine).refusal(precision, device)
    if reason is not None:
        raise EatError(reason)
