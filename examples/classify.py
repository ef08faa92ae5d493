"""Classify the lines of standard input: python examples/classify.py FOLDER < texts.txt"""

import sys

from eat.runtime import AdaptiveClassifier

classify = AdaptiveClassifier.load(sys.argv[1])
for line in filter(str.strip, sys.stdin):
    [answer] = classify([line])
    print(f"{answer.label}\t{answer.probability:.3f}\t{answer.depth} layers\t{answer.exit_reason}\t{line.strip()}")
