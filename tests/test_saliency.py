"""Gradient x input at the embeddings, against finite differences."""

from __future__ import annotations

import tiny
import torch

from eat.model.saliency import saliency, saliency_of_texts


def test_saliency_is_the_gradient_times_the_embedding():
    """AdapLeR (arXiv:2203.08991), the target of its predictors: the L2 norm of gradient x input as shares."""
    model = tiny.model(last_head="bert").double()
    batch = tiny.batch([3, 4])
    labels = torch.tensor([1, 0])
    found = saliency(model, batch, labels)
    encoder = model.encoder
    with torch.no_grad():
        embedded = encoder.embeddings(batch)
        gradient = torch.zeros_like(embedded)
        for token in range(7):
            row = int(token >= 3)
            for column in range(32):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = embedded.clone()
                    moved[token, column] += step
                    handle = encoder.embeddings.register_forward_hook(lambda *_, to=moved: to)
                    ends.append(model.run(batch).exits[4][row, labels[row]])
                    handle.remove()
                gradient[token, column] = (ends[0] - ends[1]) / 2e-5
    norms = (gradient * embedded).norm(dim=1)
    expected = torch.cat([norms[:3] / norms[:3].sum(), norms[3:] / norms[3:].sum()])
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_a_text_s_saliency_does_not_depend_on_its_batch():
    model = tiny.model(last_head="bert")
    texts = tiny.texts([5, 9, 3, 7])
    labels = [0, 1, 1, 0]
    together = saliency_of_texts(model, texts, labels)
    for text, label, worth in zip(texts, labels, together, strict=True):
        (alone,) = saliency_of_texts(model, [text], [label])
        torch.testing.assert_close(worth, alone, atol=1e-5, rtol=1e-4)
        assert abs(worth.sum().item() - 1.0) < 1e-5
    assert all(parameter.grad is None for parameter in model.parameters())
