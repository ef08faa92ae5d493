"""The runner of exported models: NumPy, ONNX Runtime and tokenizers, without PyTorch and transformers.

The one package besides `eat.model` whose file is not empty: `from eat.runtime import AdaptiveClassifier` is its use.
"""

from eat.runtime.classifier import AdaptiveClassifier, Answer, Trace

__all__ = ["AdaptiveClassifier", "Answer", "Trace"]
