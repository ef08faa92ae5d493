"""Fit temperatures, or thresholds that keep a promise or a cost, on the calibration split; measure them on dev."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="mode, bins, promise and costs, as JSON")
    parser.add_argument("--calibration", required=True, type=Path, help="the trace of the calibration split")
    parser.add_argument("--dev", required=True, type=Path, help="the trace of the dev split")
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    arguments = parser.parse_args()

    from eat.calibrate.system import calibrate_system
    from eat.files import write_json
    from eat.results.trace import Trace
    from eat.study.specs.calibrate import CalibrationSpec

    spec = CalibrationSpec.of_json(arguments.spec)
    traces = Trace.read(arguments.calibration), Trace.read(arguments.dev)
    write_json(arguments.out, calibrate_system(*traces, spec))


if __name__ == "__main__":
    run(main)
