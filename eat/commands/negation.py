"""`eat negation`: what reducers of tokens make of negations."""

from __future__ import annotations

import argparse

from eat.commands.arguments import options_from, quiet_libraries
from eat.commands.trained_study import add_trained

HELP = "measure whether removed tokens are negations, and what that costs"
DESCRIPTION = (
    "Insert or remove a negation in the dev texts of a trained study by rule, and measure for each system that removes "
    "tokens how often the negation is removed, after which layer, and how often the answer changes with the edit, "
    "compared with the dense reference. For English; run in the folder in which the study has run."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_trained(parser, "default: all with a reducer in the engine torch")


def run(options: argparse.Namespace) -> None:
    """Measure and print the tables."""
    from eat.analysis.negation import probe_negation
    from eat.analysis.trained import TrainedOptions

    quiet_libraries()
    print(probe_negation(options_from(TrainedOptions, options)))
