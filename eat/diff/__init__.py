"""What changed between two states of a study's results: the numbers, whether noise explains them, and what was rerun.

A state is a folder that holds a study's `summary.csv`, `timing/*.json` and `records.json`; where it comes from is not
asked here.
"""
