"""EAT: adaptive Transformer encoders that remove tokens and exit early, measured by the clock.

The packages are described in docs/design.md. An edit of this file reruns everything.
"""

__version__ = "0.1.0"
