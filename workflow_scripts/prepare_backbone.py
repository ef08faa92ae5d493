"""Put a pretrained model's files in place, with their digests checked."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.prepare.backbones import fetch_backbone
from eat.study.specs.prepare import backbone_of_json
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="the backbone's entry of the configuration, as JSON")
    parser.add_argument("--max-length", type=int, default=0, help="tokens of the longest text that it must support")
    parser.add_argument("--pairs", action="store_true", help="it must support pairs of texts")
    parser.add_argument("--out", required=True, type=Path, help="the folder to make")
    arguments = parser.parse_args()
    backbone = backbone_of_json(arguments.out.name, arguments.spec)
    fetch_backbone(backbone, arguments.out, arguments.max_length, arguments.pairs)


if __name__ == "__main__":
    run(main)
