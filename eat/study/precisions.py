"""The precisions and devices that a study can name."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "float16", "bfloat16", "int8"]
Device = Literal["auto", "cpu", "cuda", "mps"]
