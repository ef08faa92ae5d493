"""`eat export`: write a model for the runner without PyTorch, or for `transformers` and the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.commands.arguments import options_from, quiet_libraries

HELP = "write a model for the runner without PyTorch, or for the Hugging Face hub"
DESCRIPTION = (
    "Write a trained model as one ONNX file with its early exits inside, beside its tokenizer, a manifest and a model "
    "card. eat.runtime runs it without PyTorch. With --format transformers, write what from_pretrained reads and the "
    "hub takes: configuration with the operating point, weights, tokenizer, model card."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="a study's model folder, or one that `save_pretrained` wrote"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--format", default="onnx", help="onnx (the default) or transformers")
    parser.add_argument(
        "--precision", help="of ONNX: int8 (the default) or float32; of --format transformers always float32"
    )
    parser.add_argument(
        "--tau", type=float, help="the threshold; default: the saved operating point, or the study's chosen one"
    )
    parser.add_argument("--system", help="the study's row whose parts and rule are used; default: that of the folder")
    parser.add_argument(
        "--config", type=Path, help="the study's configuration; default: the file in config/ with the study's name"
    )
    parser.add_argument(
        "--max-length", type=int, help="the tokens of the longest text; default: the study's, or the model's positions"
    )


def run(options: argparse.Namespace) -> None:
    """Write the folder and print what it holds."""
    from eat.export.given import require_folder

    require_folder(options.model)  # at once: the libraries below take seconds
    from eat.export.folder import export
    from eat.export.source import ExportOptions

    if options.precision is None:
        options.precision = "float32" if options.format == "transformers" else "int8"
    quiet_libraries()
    print(export(options_from(ExportOptions, options)))
