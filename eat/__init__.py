"""EAT: adaptive Transformer encoders that remove tokens and exit early, measured by the clock.

docs/design.md describes the packages. An edit of this file reruns everything.
"""

__version__ = "0.1.0"
