"""LTP, PoWER-BERT, AdapLeR, TR-BERT and ToMe: their defining equations on cases worked out by hand.

LTP is Learned Token Pruning (arXiv:2107.00910), whose score and masks are equations 7 to 10 of Magic Pyramid
(arXiv:2111.00230). Equations of the others are named by what they define.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, inf, log
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from eat.finetune.policies import PolicyLoss
from eat.model.layout import Layout
from eat.model.reducers.base import Dimensions, Reducer, Reduction, TokenView
from eat.model.reducers.policy import Actions, PolicyReducer
from eat.model.reducers.predictor import PredictorReducer, soft_removal
from eat.model.reducers.registry import build_reducer
from eat.model.reducers.retention import RetentionReducer
from eat.model.reducers.threshold import ThresholdReducer
from eat.study.recipes import PolicyTraining

DIMENSIONS = Dimensions(hidden=4, layers=2, heads=2)


def view_of(lengths: list[int], depth: int = 2, **values: Tensor | None) -> TokenView:
    """Rows of these lengths in layer `depth`; hidden states are ones unless given."""
    layout = Layout(lengths)
    ids = torch.full((layout.tokens,), 7)
    given: dict[str, Any] = {"hidden": torch.ones(layout.tokens, 4), **values}
    return TokenView(depth, layout=layout, origin=None, batch_ids=ids, batch_layout=layout, **given)


def built(kind: str, soft: bool = False, **options: Any) -> Reducer:
    reducer = build_reducer({"kind": kind, "after": [1, 2], **options}, DIMENSIONS)
    reducer.soften(soft)
    return reducer


def reduced(reducer: Reducer, view: TokenView) -> Reduction:
    found = reducer.reduce(view)
    assert found is not None
    return found


# --- LTP ----------------------------------------------------------------------------------------------------------

LTP: dict[str, Any] = {"final": 0.4, "temperature": 0.1, "penalty": 0.5, "score": "mean"}
RECEIVED = torch.tensor([0.3, 0.5, 0.2, 0.6, 0.4])  # of two rows, 3 and 2 tokens; each row sums to 1


def test_thresholds_rise_linearly_from_0_and_are_learned():
    """LTP's thresholds Delta: linear in the layer, plus a learned part."""
    reducer = built("threshold", **LTP)
    assert isinstance(reducer, ThresholdReducer)
    with torch.no_grad():
        reducer.theta.copy_(torch.tensor([0.01, 0.03]))
    # Delta_l = final l / L + theta_l, l from 0: 0.4 x 0 / 2 + 0.01, and 0.4 x 1 / 2 + 0.03
    assert [reducer.threshold(depth).item() for depth in (1, 2)] == pytest.approx([0.01, 0.23])


def test_a_soft_mask_weighs_the_layer_s_output():
    """LTP's soft mask and its L1 term; the mask is Magic Pyramid's equations 8 and 9."""
    # M = sigmoid((s - Delta) / T), Delta = 0.2 in layer 2; [CLS] is protected
    reducer = built("threshold", soft=True, **LTP)
    found = reduced(reducer, view_of([3, 2], received=RECEIVED))
    mask = [1.0, 1 / (1 + exp(-3)), 1 / 2, 1.0, 1 / (1 + exp(-2))]
    assert found.kept is None
    assert found.hidden is not None
    assert found.hidden[:, 0].tolist() == pytest.approx(mask)
    # its L1 term: penalty x the mean over texts of the mean mask of their tokens
    expected = 0.5 * ((mask[0] + mask[1] + mask[2]) / 3 + (mask[3] + mask[4]) / 2) / 2
    assert found.loss is not None
    assert found.loss.item() == pytest.approx(expected)
    assert reducer.place == "layer_output"


def test_hard_removal_takes_what_is_below_the_threshold():
    """LTP's hard mask; Magic Pyramid's equation 10, which prints s - Delta > 0.5, read as M > 0.5."""
    # which is s > Delta = 0.2: of the others 0.5 and 0.4 stay, 0.2 - 0.001 goes
    reducer = built("threshold", **LTP)
    assert reducer.place == "after_attention"
    received = torch.tensor([0.1, 0.5, 0.199, 0.1, 0.4])
    found = reduced(reducer, view_of([3, 2], received=received))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 1, 3, 4]
    assert found.layout.lengths == [2, 2]
    # how near: 0.199 lies 0.001 below 0.2, and 0.4 0.2 above it
    assert found.margin is not None
    assert found.margin.tolist() == pytest.approx([0.005, 1.0], rel=1e-4)


def test_a_least_share_of_the_tokens_stays():
    """Delta is 0.2, which only [CLS], being protected, outlives in the first row."""
    received = torch.tensor([0.1, 0.15, 0.199, 0.05, 0.1, 0.4])
    view = view_of([4, 2], received=received)
    found = reduced(built("threshold", **LTP), view)
    assert found.kept is not None and found.kept.tolist() == [0, 4, 5]
    found = reduced(built("threshold", keep_at_least=0.5, **LTP), view)
    assert found.kept is not None and found.kept.tolist() == [0, 2, 4, 5]
    # the cut lies between 0.199 and 0.15; in the second row the threshold decides
    middle = (0.199 + 0.15) / 2
    assert found.margin is not None
    assert found.margin.tolist() == pytest.approx([(middle - 0.15) / middle, 1.0], rel=1e-4)
    # ceil(0.7 x 4) = 3; ceil(0.9 x 4) = 4, all of them
    for share, kept in ((0.7, [0, 1, 2]), (0.9, [0, 1, 2, 3])):
        found = reduced(built("threshold", keep_at_least=share, **LTP), view_of([4], received=received[:4]))
        assert (found.kept.tolist() if found.kept is not None else [0, 1, 2, 3]) == kept


def test_the_lowest_threshold_is_1e_5():
    """LTP's hard mask in the lowest layer: a token goes where s < max(1e-5, Delta)."""
    reducer = built("threshold", **LTP)  # Delta is 0 in layer 1
    found = reduced(reducer, view_of([3], depth=1, received=torch.tensor([0.5, 2e-5, 5e-6])))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 1]


def test_scores_of_the_public_code_do_not_depend_on_the_length():
    """LTP's score (Magic Pyramid's equation 7) as its public code computes it, on texts padded to 128 tokens."""
    # divided by 128 and not by t: a token with an average share, 1 / t, has 1 / 128 whatever t is
    reducer = built("threshold", **{**LTP, "score": "padded128"})
    assert isinstance(reducer, ThresholdReducer)
    received = torch.tensor([1 / 3] * 3 + [1 / 2] * 2)
    assert reducer.importance(view_of([3, 2], received=received)).tolist() == pytest.approx([1 / 128] * 5)
    # so a threshold Delta means t s >= 128 Delta: with Delta = 0.2 / 128 in layer 2 tokens of a fifth of the average go
    with_small = built("threshold", **{**LTP, "score": "padded128", "final": 0.4 / 128})
    found = reduced(with_small, view_of([5], received=torch.tensor([0.2, 0.039, 0.041, 0.3, 0.42])))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 2, 3, 4]


# --- PoWER-BERT ---------------------------------------------------------------------------------------------------


def with_retention(soft: bool, rows: list[list[float]], penalty: float = 0.0) -> RetentionReducer:
    reducer = built("retention", soft, longest=len(rows[0]), penalty=penalty)
    assert isinstance(reducer, RetentionReducer)
    with torch.no_grad():
        reducer.retention.copy_(torch.tensor(rows))
    return reducer


def test_the_kth_most_significant_token_is_weighted_by_the_kth_retention():
    """PoWER-BERT (arXiv:2001.08950), its soft-extract layer, and the mass of the retention parameters in its loss."""
    reducer = with_retention(True, [[1.0, 1.0, 1.0], [1.0, 0.8, 0.3]], penalty=0.1)
    # row 0: [CLS], then 0.5 before 0.2; row 1 has 4 places, and its last shares r[2]
    received = torch.tensor([0.3, 0.2, 0.5, 0.1, 0.2, 0.3, 0.4])
    found = reduced(reducer, view_of([3, 4], received=received))
    assert found.hidden is not None
    assert found.hidden[:, 0].tolist() == pytest.approx([1.0, 0.3, 0.8, 1.0, 0.3, 0.3, 0.8])
    assert found.loss is not None
    assert found.loss.item() == pytest.approx(0.1 * 2 * (0.8 + 0.3))  # penalty x l x the sum, [CLS] left out


def test_the_number_of_tokens_is_the_floor_of_the_sum_and_never_rises():
    """PoWER-BERT, its retention configuration: a layer's number of tokens from its mass."""
    reducer = with_retention(False, [[1.0, 0.9, 0.7, 0.0], [1.0, 1.0, 1.0, 0.5]])
    assert (reducer.kept(1), reducer.kept(2)) == (2, 2)  # floor(2.6); floor(3.5), but no more than before
    found = reduced(reducer, view_of([4, 1, 3], received=torch.tensor([0.1, 0.2, 0.4, 0.3, 1.0, 0.1, 0.5, 0.4])))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 2, 4, 5, 6]  # [CLS] and the most significant other of each row
    assert found.layout.lengths == [2, 1, 2]
    # a sum that rounding left just below a whole number is that number
    assert with_retention(False, [[0.1] * 10, [0.1] * 10]).kept(1) == 1


def test_protected_tokens_stay_even_where_they_are_more_than_the_number():
    reducer = built("retention", longest=3, penalty=0.0, protect=["cls", "sep"])
    assert isinstance(reducer, RetentionReducer)
    torch.nn.init.zeros_(reducer.retention)
    assert reducer.kept(2) == 1
    view = view_of([4, 3], received=torch.tensor([0.1, 0.6, 0.2, 0.1, 0.3, 0.5, 0.2]), separator=tiny.SEP)
    ids = view.batch_ids.clone()
    ids[[3, 6]] = tiny.SEP
    found = reduced(reducer, replace(view, batch_ids=ids))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 3, 4, 6]


def test_what_a_token_gives_itself_is_not_significance():
    """PoWER-BERT, its significance score: the attention that a token receives, the diagonal left out."""
    model = tiny.model(reducer={"kind": "retention", "after": [1], "longest": 4, "penalty": 0.0})
    seen: list[Tensor] = []
    reduce = model.encoder.reducer.reduce

    def capturing(view: TokenView) -> Reduction | None:
        assert view.received is not None
        seen.append(view.received)
        return reduce(view)

    model.encoder.reducer.reduce = capturing  # type: ignore[method-assign]
    qkv: list[Tensor] = []
    model.encoder.layers[0].qkv.register_forward_hook(lambda _, __, output: qkv.append(output.detach()))
    model.run(tiny.batch([5]))
    query, key, _ = qkv[0].view(5, 3, 4, 8).permute(1, 2, 0, 3)
    weights = (query @ key.transpose(1, 2) / 8**0.5).softmax(dim=-1).mean(dim=0)  # (queries, keys)
    expected = (weights - torch.diag(weights.diagonal())).sum(dim=0) / 5
    torch.testing.assert_close(seen[0], expected)


def test_retention_stays_between_0_and_1():
    reducer = with_retention(True, [[1.2, -0.3], [0.5, 1.0]])
    reducer.end_step()
    assert reducer.retention.tolist() == [[1.0, 0.0], [0.5, 1.0]]


# --- AdapLeR ------------------------------------------------------------------------------------------------------

ADAPLER: dict[str, Any] = {
    "size": 2, "eta": 0.5, "saliency_weight": 0.1, "penalty": 0.2, "sharpness": 10.0, "growth": 3.0, "softness": 0.1,
}  # fmt: skip


def predicting(logits: list[float], soft: bool, factor: float = 1.0, **options: Any) -> PredictorReducer:
    """A reducer whose predictor of layer 2 gives token i of hidden state (i, 0, 0, 0) these logits."""
    reducer = built("predictor", soft, **{**ADAPLER, **options})
    assert isinstance(reducer, PredictorReducer)

    class Fixed(torch.nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return torch.tensor(logits)[hidden[:, 0].long()][:, None]

    reducer.predictors["2"] = Fixed()
    with torch.no_grad():
        reducer.cls_factor.fill_(factor)
    return reducer


def numbered(lengths: list[int], **values: Tensor | None) -> TokenView:
    hidden = torch.zeros(sum(lengths), 4)
    hidden[:, 0] = torch.arange(sum(lengths))
    return view_of(lengths, hidden=hidden, **values)


def test_soft_removal_is_its_formula():
    """AdapLeR (arXiv:2203.08991), its soft-removal function m(x), with k for lambda."""
    # k = 10, b = 0.1, delta = 0.25: at 0 -k - b/k = -10.01; at delta -b/k = -0.01; halfway to 1 half of that; at 1 0
    shares = torch.tensor([0.0, 0.125, 0.25, 0.625, 1.0])
    found = soft_removal(shares, torch.tensor(0.25), sharpness=10.0, softness=0.1)
    assert found.tolist() == pytest.approx([-10.01, -5.01, -0.01, -0.005, 0.0], abs=1e-6)
    assert soft_removal(torch.tensor([0.0]), torch.tensor(0.25), 1e9, 0.1).item() == -1e4


def test_tokens_below_eta_over_n_go():
    """AdapLeR, its threshold delta = eta / n for the predicted contributions, with n live tokens."""
    # softmax of ln (1, 1, 6, 2) is 0.1 0.1 0.6 0.2; delta = eta / n = 0.5 / 4 = 0.125
    reducer = predicting([log(1), log(1), log(6), log(2)], soft=False)
    found = reduced(reducer, numbered([4]))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 2, 3]  # [CLS] stays whatever its share
    assert found.margin is not None
    assert found.margin.item() == pytest.approx((0.125 - 0.1) / 0.125, rel=1e-4)


def test_the_share_of_cls_is_scaled_and_the_shares_sum_to_1_again():
    # softmax 0.7 0.1 0.2; with a factor of 0.1 0.07 0.1 0.2 over 0.37
    reducer = predicting([log(7), log(1), log(2)], soft=False, factor=0.1)
    shares = reducer.shares(torch.tensor([0.7, 0.1, 0.2]), numbered([3]))
    assert shares.tolist() == pytest.approx([7 / 37, 10 / 37, 20 / 37])
    # delta = 0.5 / 3: with the factor both others stay, without it 0.1 goes
    assert reduced(reducer, numbered([3])).kept is None
    alone = reduced(predicting([log(7), log(1), log(2)], soft=False), numbered([3]))
    assert alone.kept is not None
    assert alone.kept.tolist() == [0, 2]


def test_soft_removal_accumulates_and_both_losses_are_their_formula():
    """AdapLeR, what its two losses add to the cross entropy: phi times the length, and gamma times the divergence."""
    saliency = torch.tensor([0.25, 0.25, 0.5])
    reducer = predicting([log(2), log(1), log(1)], soft=True)
    before = torch.tensor([0.0, -log(2.0), 0.0])
    view = numbered([3], key_bias=before, batch_saliency=saliency)
    found = reduced(reducer, view)
    # of weight 1/2 before, token 1 has the share (1/2) / (2 + 1/2 + 1); n = 1 + 1/2 + 1, so delta = 0.5 / 2.5
    shares, delta = torch.tensor([4 / 7, 1 / 7, 2 / 7]), torch.tensor(0.2)
    removal = soft_removal(shares, delta, 10.0, 0.1)
    expected = before + torch.tensor([0.0, removal[1], removal[2]])
    assert found.kept is None
    assert found.key_bias is not None
    torch.testing.assert_close(found.key_bias, expected)
    # phi x the tokens still attended to + gamma (L - l) KL(saliency || softmax), l = 1 in the second layer of two
    divergence = 0.25 * log(0.25 / 0.5) + 0.25 * log(0.25 / 0.25) + 0.5 * log(0.5 / 0.25)
    assert found.loss is not None
    assert found.loss.item() == pytest.approx(0.2 * expected.exp().sum().item() + 0.1 * 1 * divergence, rel=1e-5)


def test_the_length_term_teaches_eta_alone():
    """AdapLeR, its second loss, which tunes the speed: of eta and the factor of [CLS] alone."""
    torch.manual_seed(0)
    reducer = built("predictor", True, **{**ADAPLER, "saliency_weight": 0.0})
    hidden = torch.randn(6, 4, requires_grad=True)
    found = reduced(reducer, view_of([6], hidden=hidden, batch_saliency=torch.full((6,), 1 / 6)))
    assert found.loss is not None
    found.loss.backward()
    moved = {name for name, one in reducer.named_parameters() if one.grad is not None and bool(one.grad.any())}
    assert moved == {"eta", "cls_factor"}
    assert hidden.grad is None or not hidden.grad.any()


def test_as_the_sharpness_grows_soft_removal_becomes_removal():
    parts = {"kind": "predictor", "after": [1, 2, 3, 4], **ADAPLER}
    model = tiny.model(reducer=parts, last_head="bert")
    assert isinstance(model.encoder.reducer, PredictorReducer)
    with torch.no_grad():
        model.encoder.reducer.eta.fill_(0.9)
        model.encoder.reducer.cls_factor.fill_(0.5)
    batch = tiny.batch([12, 5, 9])
    hard = model.run(batch)
    assert sum(hard.work[-1].fed) < 26
    reducer = model.encoder.reducer
    assert isinstance(reducer, PredictorReducer)
    reducer.soften(True)
    worth = torch.ones(26)
    soft = {}
    for epoch in (0, 20):
        reducer.begin_step(epoch)
        soft[epoch] = model.encoder(replace(batch, saliency=worth)).exits[4]
    assert reducer.sharpness == 10.0 * 3.0**20
    torch.testing.assert_close(soft[20], hard.logits, atol=1e-3, rtol=0)
    assert not torch.allclose(soft[0], hard.logits, atol=1e-3)


def test_eta_stays_within_its_range():
    reducer = built("predictor", True, **ADAPLER)
    assert isinstance(reducer, PredictorReducer)
    with torch.no_grad():
        reducer.eta.copy_(torch.tensor([-1.0, 2.0]))
    reducer.end_step()
    assert reducer.eta.tolist() == pytest.approx([0.01, 1.0])


# --- TR-BERT ------------------------------------------------------------------------------------------------------


def deciding(logits: list[float], imitates: float | None = None, soft: bool = False, **options: Any) -> PolicyReducer:
    """A policy whose network after layer 2 gives token i of hidden state (i, 0, 0, 0) these logits."""
    reducer = built("policy", size=2, **options)
    assert isinstance(reducer, PolicyReducer)

    class Fixed(torch.nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return torch.tensor(logits)[hidden[:, 0].long()][:, None]

    reducer.networks["2"] = Fixed()
    reducer.imitates = imitates
    reducer.soften(soft)
    return reducer


def test_at_inference_tokens_of_a_probability_from_one_half_stay():
    """TR-BERT (arXiv:2105.11618), its policy at inference: no action is drawn."""
    found = reduced(deciding([-3.0, 0.0, -0.1, 2.0, -5.0, -1.0]), numbered([4, 2]))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 1, 3, 4]  # [CLS] of both rows whatever its probability
    assert found.layout.lengths == [3, 1]
    assert found.margin is not None
    # the nearest to another choice: probability 1/2 of token 1 itself; in row 1 of 1 / (1 + e) = 0.2689
    assert found.margin.tolist() == pytest.approx([0.0, (0.5 - 1 / (1 + exp(1))) / 0.5], abs=1e-6)


def test_the_heuristic_keeps_what_receives_the_most_attention_and_is_imitated():
    """TR-BERT, its imitation: the log-likelihood of a heuristic's actions under the policy, by hand."""
    # with p = 3/4 for every token: a kept one has ln 3/4, a dropped one ln 1/4; half of 3 is 2, of 2 it is 1
    reducer = deciding([log(3)] * 7, imitates=0.5, soft=True)
    assert reducer.needs_received
    received = torch.tensor([0.0, 0.1, 0.5, 0.4, 0.9, 0.06, 0.04])
    found = reduced(reducer, numbered([4, 3], received=received))
    assert found.kept is not None
    assert found.kept.tolist() == [0, 2, 3, 4, 5]
    (actions,) = reducer.take_actions()
    expected = [(2 * log(3 / 4) + log(1 / 4)) / 3, (log(3 / 4) + log(1 / 4)) / 2]
    assert actions.log_probability.tolist() == pytest.approx(expected)
    assert actions.kept.tolist() == pytest.approx([3 / 4, 2 / 3])
    assert reducer.take_actions() == []
    reducer.soften(False)
    assert not reducer.needs_received, "inference does not compute what only the heuristic needs"


def test_drawn_actions_have_the_policy_s_probabilities():
    reducer = deciding([0.0] + [log(3)] * 4000, soft=True)
    hidden = torch.zeros(4001, 4)
    hidden[:, 0] = torch.arange(4001)
    torch.manual_seed(0)
    found = reduced(reducer, view_of([4001], hidden=hidden))
    # of 4000 tokens of probability 3/4 3000 are expected, with a standard deviation of 27.4
    assert abs(found.layout.tokens - 1 - 3000) < 4 * 27.4
    (actions,) = reducer.take_actions()
    kept = found.layout.tokens - 1
    assert actions.log_probability.item() == pytest.approx((kept * log(3 / 4) + (4000 - kept) * log(1 / 4)) / 4000)


def test_the_reward_is_the_log_likelihood_less_the_cost_and_its_mean_over_draws_is_the_baseline():
    """TR-BERT, its REINFORCE loss for two draws of one text, and two layers, by hand."""
    reducer = deciding([0.0])
    probability = torch.tensor([-0.6, -0.2], requires_grad=True)
    reducer._actions = [
        Actions(probability, torch.tensor([1.0, 0.5])),
        Actions(torch.tensor([-0.1, -0.3]), torch.tensor([0.5, 0.25])),
    ]
    loss = PolicyLoss(PolicyTraining(by="reinforce", cost=2.0, samples=2), reducer)
    logits = torch.tensor([[0.0, log(3)], [0.0, 0.0]])  # of the label 1: 3/4 and 1/2
    parts, measures = loss(logits, torch.tensor([1, 1]))
    # kept (1 + 1/2) / 2 = 0.75 and 0.375
    rewards = [log(3 / 4) - 2 * 0.75, log(1 / 2) - 2 * 0.375]
    baseline = sum(rewards) / 2
    expected = -((rewards[0] - baseline) * -0.7 + (rewards[1] - baseline) * -0.5) / 2
    assert parts["policy"].item() == pytest.approx(expected, rel=1e-5)
    assert measures["reward"].item() == pytest.approx(baseline, rel=1e-5)
    assert measures["kept"].item() == pytest.approx(0.5625)
    parts["policy"].backward()
    # the better draw, here the second, becomes more probable: its gradient is negative
    assert rewards[1] > rewards[0]
    assert probability.grad is not None
    assert probability.grad.tolist() == pytest.approx([-(r - baseline) / 2 for r in rewards], rel=1e-4)


def test_imitation_has_no_reward_in_its_loss():
    reducer = deciding([0.0], imitates=0.5, soft=True)
    reducer._actions = [Actions(torch.tensor([-0.6, -0.2]), torch.tensor([1.0, 0.5]))]
    loss = PolicyLoss(PolicyTraining(by="imitation"), reducer)
    parts, _ = loss(torch.zeros(2, 2), torch.tensor([1, 0]))
    assert parts["policy"].item() == pytest.approx(0.4)


def test_draws_of_a_text_are_adjacent_copies():
    loss = PolicyLoss(PolicyTraining(by="reinforce", samples=2), deciding([0.0]))
    found = loss.repeated(
        {
            "ids": torch.tensor([7, 8, 9]), "types": torch.tensor([0, 0, 1]), "lengths": [1, 2], "rows": [5, 3],
            "labels": torch.tensor([1, 0]), "teacher": torch.tensor([[0.1, 0.2], [0.3, 0.4]]), "saliency": None,
        }
    )  # fmt: skip
    assert found["ids"].tolist() == [7, 7, 8, 9, 8, 9]
    assert found["types"].tolist() == [0, 0, 0, 1, 0, 1]
    assert (found["lengths"], found["rows"]) == ([1, 1, 2, 2], [5, 5, 3, 3])
    assert found["labels"].tolist() == [1, 1, 0, 0]
    assert found["teacher"][:, 0].tolist() == pytest.approx([0.1, 0.1, 0.3, 0.3])


@pytest.mark.parametrize("imitates", [0.5, None], ids=["imitation", "reinforce"])
def test_a_policy_learns_while_tokens_go_and_the_encoder_learns_nothing_from_it(imitates: float | None):
    model = tiny.model(reducer={"kind": "policy", "after": [1, 3], "size": 4}, last_head="bert")
    reducer = model.encoder.reducer
    assert isinstance(reducer, PolicyReducer)
    reducer.imitates = imitates
    reducer.soften(True)
    torch.manual_seed(0)
    output = model.encoder(tiny.batch([20, 9]))
    assert sum(output.work[1].fed) < 29
    actions = reducer.take_actions()
    assert len(actions) == 2
    assert output.loss is None
    torch.stack([each.log_probability for each in actions]).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("encoder.reducer."), name


# --- ToMe ---------------------------------------------------------------------------------------------------------


def keys_at(*degrees: float) -> Tensor:
    """Keys (n, 4) of two heads that both point so many degrees from the first axis."""
    angle = torch.deg2rad(torch.tensor(degrees))
    one = torch.stack([angle.cos(), angle.sin()], dim=1)
    return torch.cat([one, one], dim=1)


MERGING: dict[str, Any] = {"ratio": 0.25, "protect": ["cls"]}


def test_the_pair_that_is_most_alike_becomes_its_mean():
    """ToMe (arXiv:2210.09461), its bipartite soft matching by the cosine of keys."""
    # behind [CLS] alternately in A and B: 0 | 90 | 80 | 20 degrees. 80 is nearest to 90 (10 degrees), 0 to 20 (20)
    view = view_of([5], keys=keys_at(0, 0, 90, 80, 20), hidden=torch.arange(20.0).view(5, 4))
    found = reduced(built("merging", **MERGING), view)  # a quarter of four: one pair
    assert found.kept is not None
    assert found.kept.tolist() == [0, 1, 2, 4]
    assert found.hidden is not None
    assert found.hidden[:, 0].tolist() == [0.0, 4.0, (8.0 + 12.0) / 2, 16.0]
    assert found.key_bias is not None
    assert found.key_bias.tolist() == pytest.approx([0.0, 0.0, log(2), 0.0])
    # how near another answer was: the next pair's distance is 1 - cos 20, of which this one's 1 - cos 10 is a quarter;
    # nearer is the choice of 90 degrees and not of 20 by the token at 80, cos 10 against cos 60
    cos_10, cos_20, cos_60 = torch.deg2rad(torch.tensor([10.0, 20.0, 60.0])).cos()
    assert found.margin is not None
    assert found.margin.item() == pytest.approx((cos_10 - cos_60).item(), rel=1e-3)
    assert found.margin < (cos_10 - cos_20) / (1 - cos_20)


def test_means_are_weighted_by_the_tokens_that_each_stands_for():
    """ToMe, its tracking of token sizes."""
    sizes = torch.tensor([1.0, 1.0, 1.0, 3.0, 1.0])
    view = view_of([5], keys=keys_at(0, 0, 90, 80, 20), hidden=torch.arange(20.0).view(5, 4), key_bias=sizes.log())
    found = reduced(built("merging", **MERGING), view)
    assert found.hidden is not None
    assert found.key_bias is not None
    assert found.hidden[2, 0].item() == pytest.approx((1 * 8.0 + 3 * 12.0) / 4)
    assert found.key_bias[2].item() == pytest.approx(log(4))


def test_several_may_join_one_and_rows_do_not_mix():
    # row 0: A is 10 and 12 degrees, B 11 and 80: both join 11. row 1: A is 50, B 60
    view = view_of([5, 3], keys=keys_at(0, 10, 11, 12, 80, 0, 50, 60), hidden=torch.arange(32.0).view(8, 4))
    found = reduced(built("merging", ratio=0.5, protect=["cls"]), view)
    assert found.layout.lengths == [3, 2]
    assert found.hidden is not None
    assert found.hidden[:, 0].tolist() == pytest.approx([0.0, (4 + 8 + 12) / 3, 16.0, 20.0, (24 + 28) / 2])
    assert found.key_bias is not None
    assert found.key_bias.exp().tolist() == pytest.approx([1, 3, 1, 1, 2])


def test_protected_tokens_neither_join_nor_are_joined():
    # the last is [SEP], exactly like token 1: token 1 joins token 2 all the same
    view = view_of([4], keys=keys_at(0, 30, 60, 30), separator=None)
    ids = view.batch_ids.clone()
    ids[3] = tiny.SEP
    view = TokenView(2, view.hidden, view.layout, None, ids, view.layout, keys=view.keys, separator=tiny.SEP)
    found = reduced(built("merging", ratio=0.5, protect=["cls", "sep"]), view)
    assert found.kept is not None
    assert found.kept.tolist() == [0, 2, 3]
    assert found.margin is not None
    assert found.margin.item() == inf  # one to join, and one to choose from


def test_merged_tokens_count_as_often_as_they_stand_for_in_attention():
    """ToMe, its proportional attention: softmax(Q K^T / sqrt d + log s)."""
    # two equal tokens, and one of their kind with log 2 on its logits, attend alike
    model = tiny.model()
    layer, layout = model.encoder.layers[0], Layout([4])
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(5))
    hidden[3] = hidden[2]
    pattern = model.encoder.pattern
    both, _ = layer.attend(hidden, layout, pattern)
    one, _ = layer.attend(hidden[:3], Layout([3]), pattern, torch.tensor([0.0, 0.0, log(2)]))
    torch.testing.assert_close(one, both[:3], atol=1e-5, rtol=1e-5)


# --- all of them, in a model --------------------------------------------------------------------------------------

SHARP = {
    "threshold": {"kind": "threshold", "after": [1, 2, 3, 4], "final": 0.01, "temperature": 1e-3, "penalty": 0.1},
    "retention": {"kind": "retention", "after": [1, 3], "longest": 16, "penalty": 0.1},
    "predictor": {"kind": "predictor", "after": [1, 2, 3, 4], **ADAPLER},
}


@pytest.mark.parametrize("kind", sorted(SHARP))
def test_softly_every_token_stays_and_the_reducer_gets_gradients(kind: str):
    model = tiny.model(reducer=SHARP[kind], last_head="bert")
    model.encoder.reducer.soften(True)
    if kind == "threshold":  # where the sigmoid is not flat
        torch.nn.init.zeros_(model.encoder.reducer.theta)
    batch = tiny.batch([9, 4])
    output = model.encoder(replace(batch, saliency=torch.full((13,), 0.1)))
    assert [sum(work.fed) for work in output.work] == [13] * 4
    assert output.loss is not None
    (output.loss + output.exits[4].sum()).backward()
    for name, parameter in model.encoder.reducer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_learned_parameters_are_saved_and_read(tmp_path: Any):
    from eat.model.hugging_face import load_model

    model = tiny.model(reducer=SHARP["predictor"], last_head="bert")
    model.save_pretrained(tmp_path)
    read = load_model(tmp_path)
    batch = tiny.batch([9, 4, 12])
    assert torch.equal(model.run(batch).logits, read.run(batch).logits)
    for (name, ours), theirs in zip(
        model.encoder.reducer.named_parameters(), read.encoder.reducer.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
