"""Equations 1 to 3 of the paper (EAT, arXiv:2510.12856) on two classes, by hand, and the losses of other systems."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Literal

import pytest
import tiny
import torch

from eat.errors import EatError
from eat.finetune.layer_distillation import LayerLoss, Readout, score_error
from eat.finetune.losses import JointLoss, exit_weights
from eat.model.attention import attention_scores
from eat.model.batch import PackedBatch
from eat.model.layout import Layout
from eat.model.weights import load_encoder, read_checkpoint
from eat.study.recipes import LayerDistillation

# logits (0, ln 3) are the probabilities (1/4, 3/4); (0, 0) are (1/2, 1/2)
EXITS = {4: torch.tensor([[0.0, log(3)]]), 6: torch.tensor([[0.0, 0.0]])}
LABEL = torch.tensor([1])


def test_equation_1_sums_weighted_cross_entropies():
    """EAT, equation 1."""
    parts = JointLoss({4: 0.3, 6: 1.0})(EXITS, LABEL)
    # CE after 4: -ln 3/4; after 6: -ln 1/2
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {"exit_4": 0.3 * log(4 / 3), "exit_6": log(2)}, rel=1e-6
    )


def test_equation_2_adds_the_divergence_from_the_teacher_at_the_last_exit():
    """EAT, equation 2."""
    # T = 2 halves the teacher's logits (0, 2 ln 3) to (0, ln 3): KL((1/4, 3/4) || (1/2, 1/2)), times mu T^2 = 2
    teacher = torch.tensor([[0.0, 2 * log(3)]])
    parts = JointLoss({6: 1.0}, mu=0.5, temperature=2.0)(EXITS, LABEL, teacher)
    divergence = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)
    assert parts["distillation"].item() == pytest.approx(2.0 * divergence, rel=1e-6)
    # a student that says what its teacher says loses nothing
    same = JointLoss({6: 1.0}, mu=0.5, temperature=2.0)({6: teacher}, LABEL, teacher)
    assert same["distillation"].item() == pytest.approx(0.0, abs=1e-7)


def test_a_teacher_may_teach_every_exit_by_its_lambda():
    # T = 2 halves the logits (0, ln 3) after 4 to (0, ln sqrt 3); the teacher is (1/2, 1/2) and agrees with the last
    teacher = torch.tensor([[0.0, 0.0]])
    parts = JointLoss({4: 0.3, 6: 1.0}, mu=0.5, temperature=2.0, distilled={4: 0.3, 6: 1.0})(EXITS, LABEL, teacher)
    low = 1 / (1 + 3**0.5)
    divergence = 0.5 * log(0.5 / low) + 0.5 * log(0.5 / (1 - low))
    assert parts["distillation"].item() == pytest.approx(0.3 * 0.5 * 4 * divergence, rel=1e-6)


def test_equation_3_is_their_sum_averaged_over_the_batch():
    """EAT, equation 3."""
    two = {depth: torch.cat([logits, logits.flip(1)]) for depth, logits in EXITS.items()}
    teacher = torch.tensor([[0.0, 2 * log(3)], [0.0, 2 * log(3)]])
    parts = JointLoss({4: 0.3, 6: 1.0}, mu=0.5, temperature=2.0)(two, torch.tensor([1, 1]), teacher)
    # the second text's probabilities after 4 are (3/4, 1/4): CE ln 4
    expected = 0.3 * (log(4 / 3) + log(4)) / 2 + log(2) + 2.0 * (0.25 * log(0.5) + 0.75 * log(1.5))
    assert sum(part.item() for part in parts.values()) == pytest.approx(expected, rel=1e-6)


def test_texts_without_a_label_only_learn_from_the_teacher():
    two = {depth: torch.cat([logits, logits.flip(1)]) for depth, logits in EXITS.items()}
    teacher = torch.tensor([[0.0, 2 * log(3)], [0.0, 2 * log(3)]])
    loss = JointLoss({4: 0.3, 6: 1.0}, mu=0.5, temperature=2.0)
    parts, alone = loss(two, torch.tensor([1, -1]), teacher), loss(EXITS, LABEL, teacher[:1])
    assert [parts[name].item() for name in ("exit_4", "exit_6")] == [
        alone[name].item() for name in ("exit_4", "exit_6")
    ]
    assert parts["distillation"] == loss(two, torch.tensor([1, 1]), teacher)["distillation"]
    none = loss(two, torch.tensor([-1, -1]), teacher)
    assert none["exit_4"].item() == none["exit_6"].item() == 0.0 and none["distillation"].item() > 0


def test_gradients_reach_every_exit_and_not_the_teacher():
    exits = {depth: logits.clone().requires_grad_() for depth, logits in EXITS.items()}
    teacher = torch.tensor([[0.0, 1.0]], requires_grad=True)
    sum(JointLoss({4: 0.3, 6: 1.0}, 0.5, 2.0)(exits, LABEL, teacher.detach()).values()).backward()
    # dCE/dlogits = P - onehot: 0.3 * (1/4, -1/4) after 4
    assert exits[4].grad is not None
    assert exits[4].grad[0].tolist() == pytest.approx([0.075, -0.075], rel=1e-5)
    assert exits[6].grad is not None
    assert exits[6].grad.abs().sum() > 0


def test_half_precision_logits_are_lost_on_in_float32():
    parts = JointLoss({4: 1.0, 6: 1.0})({depth: logits.bfloat16() for depth, logits in EXITS.items()}, LABEL)
    assert {part.dtype for part in parts.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("given", "trained", "expected"),
    [
        ({}, None, {2: 0.3, 4: 0.3, 6: 1.0}),  # the paper: 0.3, and 1.0 for the last
        ({2: 0.1}, None, {2: 0.1, 4: 0.3, 6: 1.0}),
        ({4: 0.0}, None, {2: 0.3, 4: 0.0, 6: 1.0}),
        ({}, [2, 4], {2: 1.0, 4: 1.0}),
        ({4: 0.5}, [2, 4], {2: 1.0, 4: 0.5}),
    ],
)
def test_weights_of_exits(given: dict[int, float], trained: list[int] | None, expected: dict[int, float]):
    assert exit_weights(given, [2, 4, 6], trained) == expected


def test_an_exit_of_weight_0_is_no_part():
    assert list(JointLoss({4: 0.0, 6: 1.0})(EXITS, LABEL)) == ["exit_6"]


# --- the losses of other papers, as cases of it ---------------------------------------------------------------------


def divergence(first: list[float], second: list[float]) -> float:
    """KL(first || second)."""
    return sum(p * log(p / q) for p, q in zip(first, second, strict=True))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_fastbert_s_last_head_teaches_all_others(direction: Literal["forward", "reverse"]):
    """FastBERT (arXiv:2004.02178), equations 5 and 6; Magic Pyramid (arXiv:2111.00230), equations 3 and 4.

    The sum over the other heads of the divergence from the last. Both papers print KL(student || teacher), which is
    `reverse`; FastBERT's public code computes the other, `forward`.
    """
    # the last head says (1/2, 1/2), the others (1/4, 3/4) and (4/5, 1/5)
    logits = {2: torch.tensor([[0.0, log(3)]]), 4: torch.tensor([[log(4), 0.0]]), 6: torch.tensor([[0.0, 0.0]])}
    for one in logits.values():
        one.requires_grad_()
    every = {2: 1.0, 4: 1.0, 6: 1.0}
    loss = JointLoss(every, 1.0, 1.0, distilled=every, labels=0.0, itself=True, divergence=direction)
    parts = loss(logits, LABEL)
    students, teacher = ([0.25, 0.75], [0.8, 0.2]), [0.5, 0.5]
    pairs = [(teacher, one) if direction == "forward" else (one, teacher) for one in students]
    assert list(parts) == ["distillation"]
    assert parts["distillation"].item() == pytest.approx(sum(divergence(*pair) for pair in pairs), rel=1e-6)
    parts["distillation"].backward()
    assert logits[6].grad is None  # the teacher learns nothing
    assert logits[2].grad is not None


def test_berxit_s_other_step_has_the_terms_of_the_last_exit_alone():
    """BERxiT (Xin et al. 2021, EACL): the loss of the last classifier, and the sum of all, in turn."""
    teacher = torch.tensor([[0.0, 2 * log(3)]])
    loss = JointLoss({4: 0.3, 6: 1.0}, 0.5, 2.0, distilled={4: 0.3, 6: 1.0})
    alone = loss.of_last()(EXITS, LABEL, teacher)
    assert list(alone) == ["exit_6", "distillation"]
    assert alone["exit_6"] == loss(EXITS, LABEL, teacher)["exit_6"]
    assert alone["distillation"] == JointLoss({6: 1.0}, 0.5, 2.0)(EXITS, LABEL, teacher)["distillation"]
    # the last exit is not its own teacher
    itself = JointLoss({4: 1.0, 6: 1.0}, 1.0, distilled={4: 1.0, 6: 1.0}, itself=True)
    assert list(itself.of_last()(EXITS, LABEL)) == ["exit_6"]


def test_pabee_weighs_each_exit_by_its_layer():
    """PABEE (arXiv:2006.04152), its training loss: the mean over all heads, that of layer j with weight j."""
    # sum_j j CE_j / sum_j j: (4 CE_4 + 6 CE_6) / 10
    parts = JointLoss({4: 0.4, 6: 0.6})(EXITS, LABEL)
    assert sum(part.item() for part in parts.values()) == pytest.approx((4 * log(4 / 3) + 6 * log(2)) / 10, rel=1e-6)


def test_deebert_sums_the_cross_entropies_of_its_off_ramps():
    """DeeBERT (arXiv:2004.12993), the loss of its second stage: the sum over the off-ramps that it trains."""
    parts = JointLoss(exit_weights({}, [2, 4, 6], [2, 4]))({2: EXITS[6], 4: EXITS[4], 6: EXITS[6]}, LABEL)
    assert sum(part.item() for part in parts.values()) == pytest.approx(log(2) + log(4 / 3), rel=1e-6)


def test_branchynet_sums_the_weighted_cross_entropies_of_all_exits():
    """BranchyNet (arXiv:1709.01686), its joint loss: the sum over all exits of w_n times the cross entropy."""
    # CE after 4: -ln 3/4, after 6: -ln 1/2; its public code weighs every exit by 1
    parts = JointLoss({4: 1.0, 6: 1.0})(EXITS, LABEL)
    assert sum(part.item() for part in parts.values()) == pytest.approx(log(4 / 3) + log(2), rel=1e-6)
    parts = JointLoss({4: 1.0, 6: 0.5})(EXITS, LABEL)
    assert sum(part.item() for part in parts.values()) == pytest.approx(log(4 / 3) + 0.5 * log(2), rel=1e-6)


# --- TinyBERT -----------------------------------------------------------------------------------------------------


def test_tinybert_s_attention_loss_is_the_mean_over_heads_and_pairs():
    """TinyBERT (arXiv:1909.10351), L_attn: 1/h sum_i MSE(A_i^S, A_i^T), of scores that are not normalised.

    One head of width 1, rows of two tokens and one: the scores are q_i k_j within a row. Against a teacher of zeros
    (1 x 1)^2 + (1 x 1)^2 + (2 x 1)^2 + (2 x 1)^2 + (3 x 2)^2 = 46 over 2^2 + 1^2 pairs.
    """
    own = torch.tensor([[1.0, 1.0, 9.0], [2.0, 1.0, 9.0], [3.0, 2.0, 9.0]])
    error = score_error(own, torch.zeros(3, 3), Layout([2, 1]), heads=1)
    assert error.item() == pytest.approx(46 / 5)
    # two heads, of which the second is the same as the teacher's: half of it; width 2 in all, so each head has 1
    two = torch.stack([own[:, 0], torch.ones(3), own[:, 1], torch.ones(3), torch.ones(3), torch.ones(3)], dim=1)
    target = torch.stack(
        [torch.zeros(3), torch.ones(3), torch.zeros(3), torch.ones(3), torch.ones(3), torch.ones(3)], 1
    )
    assert score_error(two, target, Layout([2, 1]), heads=2).item() == pytest.approx(46 / 10)


def test_attention_scores_are_those_of_the_stock_model(tmp_path: Path):
    """Their softmax is the attention that Transformers computes, and the hidden states are its hidden states."""
    stock = tiny.backbone(tmp_path)
    stock.set_attn_implementation("eager")
    texts = tiny.texts([7, 7])
    ours = tiny.model(last_head="bert")
    load_encoder(ours.encoder, read_checkpoint(tmp_path), range(1, 5))
    read = Readout(ours.encoder, [1, 3])
    batch = PackedBatch.of(texts)
    ours.run(batch)
    expected = stock(**tiny.padded(texts), output_hidden_states=True, output_attentions=True)
    for depth in (1, 3):
        scores = attention_scores(read.qkv[depth], batch.layout, 4)
        torch.testing.assert_close(scores.softmax(dim=-1), expected.attentions[depth - 1], atol=1e-5, rtol=1e-4)
    for depth in (0, 1, 3):
        found = read.hidden[depth].view(2, 7, 32)
        torch.testing.assert_close(found, expected.hidden_states[depth], atol=1e-4, rtol=1e-4)


def test_layers_learn_from_the_layers_they_are_mapped_to():
    """TinyBERT, L_hidn and its mapping n = g(m): of two layers and four, the first learns from the second."""
    student, teacher = tiny.model(layers=2, seed=1), tiny.model(layers=4)
    loss = LayerLoss(student, teacher, LayerDistillation(hidden=2.0, attention=0.5))
    assert loss.mapping == {1: 2, 2: 4}
    batch = tiny.batch([9, 4])
    student.run(batch)
    parts = loss(batch)
    own, other = loss.read, loss.target
    hidden = sum(float((own.hidden[m] - other.hidden[n]).detach().square().mean()) for m, n in ((0, 0), (1, 2), (2, 4)))
    assert parts["hidden"].item() == pytest.approx(2.0 * hidden, rel=1e-5)
    scores = 0.0
    for m, n in ((1, 2), (2, 4)):
        total = 0.0
        for row in (slice(0, 4), slice(4, 13)):  # the shorter text comes first
            parted = [each[row].detach().view(-1, 3, 4, 8).permute(1, 2, 0, 3) for each in (own.qkv[m], other.qkv[n])]
            s, t = (q @ k.transpose(1, 2) / 8**0.5 for q, k, _ in parted)
            total += float((s - t).square().sum())
        scores += total / (4 * (4**2 + 9**2))
    assert parts["attention"].item() == pytest.approx(0.5 * scores, rel=1e-5)
    assert not other.hidden[2].requires_grad and own.hidden[2].requires_grad
    # nothing to learn from itself
    same = LayerLoss(teacher, tiny.model(layers=4), LayerDistillation())
    teacher.run(batch)
    assert {name: part.item() for name, part in same(batch).items()} == {"hidden": 0.0, "attention": 0.0}


def test_other_widths_get_a_projection_and_other_heads_a_line():
    student = tiny.model(layers=2, hidden=16, heads=4)
    loss = LayerLoss(student, tiny.model(), LayerDistillation())
    assert dict(student.named_parameters())["projection.weight"].shape == (32, 16)
    batch = tiny.batch([5])
    student.run(batch)
    sum(loss(batch).values()).backward()
    assert student.projection.weight.grad is not None
    with pytest.raises(
        EatError, match=r"^distill.layers: the student has 2 attention heads, the teacher 4; set attent"
    ):
        LayerLoss(tiny.model(heads=2), tiny.model(), LayerDistillation())
