"""Taggers: scores, the rules of exits, halted words, the trace, and training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import taggers
import tiny
import torch
from torch import Tensor

from eat.errors import DamagedFile, EatError
from eat.model.encoder import EncoderLayer
from eat.model.layout import Layout
from eat.model.operations import layer_operations
from eat.tagging.finetune import joint_loss
from eat.tagging.forward import Halting, Tagged, _held_back, halted_layer, tag
from eat.tagging.model import load_tagger, to_stock
from eat.tagging.sentences import EncodedSentence, Pieces, SentenceBatch
from eat.tagging.spans import counts_of, score, score_interval, spans_of

ATOL = 1e-5

# --- scores -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-per I-per O", [("per", 0, 1)]),
        ("B-per B-per", [("per", 0, 0), ("per", 1, 1)]),
        ("B-per I-loc", [("per", 0, 0), ("loc", 1, 1)]),
        ("O I-per I-per B-loc", [("per", 1, 2), ("loc", 3, 3)]),
        ("B-per O I-per", [("per", 0, 0), ("per", 2, 2)]),
        ("B-a I-a", [("a", 0, 1)]),
    ],
)
def test_spans_are_those_of_conlleval(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert spans_of(tags.split()) == set(spans)


def test_f1_counts_spans_that_agree_in_type_and_both_ends() -> None:
    names = ["O", "B-per", "I-per", "B-loc"]
    gold = [[1, 2, 0, 3], [0, 0]]
    answers = [[1, 0, 0, 3], [0, 1]]  # one end is wrong, one span is right, one is not there
    counts = counts_of(answers, gold, names, "span_f1")
    assert counts.tolist() == [[1, 2, 2], [0, 1, 0]]
    assert score(counts) == pytest.approx(2 * 1 / (3 + 2))
    assert score(counts_of(answers, gold, names, "token_accuracy")) == pytest.approx(4 / 6)
    assert score(np.zeros((2, 3), np.int64)) == 0.0


def test_an_interval_contains_the_score_and_is_paired() -> None:
    generator = np.random.default_rng(0)
    counts = np.stack([generator.integers(0, 2, 200), np.ones(200, np.int64), np.ones(200, np.int64)], axis=1)
    found = score_interval([counts, counts])
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(counts[:, 0].mean())
    # a normal interval of a share of 200
    half = 1.96 * math.sqrt(found.value * (1 - found.value) / 200)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    same = score_interval([counts], [counts])
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


# --- words and pieces ---------------------------------------------------------------------------------------------


def test_words_are_tokenized_one_by_one_and_a_dropped_one_is_unknown() -> None:
    pieces = Pieces(tiny.tokenizer())
    found = pieces.encode(["gooda", "\ufeff", "bada.word3"])
    known = tiny.WORDS.index
    assert found.ids.tolist()[:3] == [tiny.CLS, known("gooda"), tiny.UNK]
    assert found.ids.tolist()[-1] == tiny.SEP
    assert found.first.tolist() == [1, 2, 3]


# --- the rules ----------------------------------------------------------------------------------------------------


def held(unsure: list[int], rows: list[int], rule: str, window: int = 0) -> list[int]:
    halting = Halting(rule, (1,), 0.9, window)  # type: ignore[arg-type]
    return _held_back(torch.tensor(unsure, dtype=torch.bool), torch.tensor(rows), halting).int().tolist()


def test_a_word_waits_for_its_neighbours_within_the_window() -> None:
    one = [0] * 7
    assert held([0, 0, 0, 1, 0, 0, 0], one, "token", 0) == [0, 0, 0, 1, 0, 0, 0]
    assert held([0, 0, 0, 1, 0, 0, 0], one, "token", 1) == [0, 0, 1, 1, 1, 0, 0]
    assert held([0, 0, 0, 1, 0, 0, 0], one, "token", 2) == [0, 1, 1, 1, 1, 1, 0]
    assert held([1, 0, 0, 0, 0, 0, 0], one, "token", 99) == [1] * 7


def test_a_window_ends_with_its_sentence() -> None:
    assert held([0, 1, 0, 0], [0, 0, 1, 1], "token", 1) == [1, 1, 0, 0]


def test_one_unsure_word_holds_its_sentence_and_no_other() -> None:
    assert held([0, 1, 0, 0], [0, 0, 1, 1], "sentence") == [1, 1, 0, 0]


# --- the forward pass ---------------------------------------------------------------------------------------------


def run(model: taggers.Tagger, given: list[EncodedSentence], halting: Halting, margins: bool = False) -> Tagged:
    with torch.inference_mode():
        return tag(model, SentenceBatch.of(given), halting, margins)


def test_a_tagger_that_cannot_stop_is_the_stock_model() -> None:
    model = taggers.tagger()
    stock = to_stock(model)
    for sentence in taggers.sentences([1, 5, 9]):
        with torch.inference_mode():
            ours = model(SentenceBatch.of([sentence]))[4]
            theirs = stock(input_ids=sentence.ids[None], token_type_ids=sentence.types[None]).logits[0]
        torch.testing.assert_close(ours, theirs.index_select(0, sentence.first), atol=ATOL, rtol=0)
        found = run(model, [sentence], Halting())
        assert found.answers.tolist() == ours.argmax(dim=-1).tolist()
        assert found.depth.tolist() == [4] * len(sentence.first)


@pytest.mark.parametrize("rule", ["sentence", "token"])
def test_where_nothing_is_sure_every_layer_is_whole(rule: str) -> None:
    model, given = taggers.tagger(), taggers.sentences([4, 7, 2])
    found = run(model, given, Halting(rule, (1, 2, 3), 1.1))  # type: ignore[arg-type]
    whole = run(model, given, Halting())
    assert found.answers.tolist() == whole.answers.tolist()
    assert found.depth.tolist() == whole.depth.tolist()
    assert found.work == whole.work
    assert found.read == 4 * 13  # every head reads every word


def test_a_layer_that_computes_all_tokens_is_the_whole_layer() -> None:
    model = taggers.tagger()
    batch = SentenceBatch.of(taggers.sentences([3, 6]))
    layout = batch.packed.layout
    hidden = torch.randn(layout.tokens, 32, generator=torch.Generator().manual_seed(0))
    layer = model.encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    with torch.inference_mode():
        whole = layer.feed(layer.attend(hidden, layout, model.encoder.pattern)[0])
        found = halted_layer(layer, hidden.clone(), layout, torch.arange(layout.tokens))
    torch.testing.assert_close(found, whole, atol=ATOL, rtol=0)


def by_hand(layer: EncoderLayer, hidden: Tensor, live: list[int]) -> Tensor:
    """A layer on one sentence, token by token and head by head, in float64."""
    layer, hidden = layer.double(), hidden.double()
    found = hidden.clone()
    size = 32 // layer.heads
    query, key, value = layer.qkv(hidden).chunk(3, dim=1)
    for token in live:
        context = []
        for head in range(layer.heads):
            at = slice(head * size, (head + 1) * size)
            scores = torch.stack([query[token, at] @ key[other, at] for other in range(len(hidden))]) / size**0.5
            weights = torch.exp(scores) / torch.exp(scores).sum()
            context.append(sum(weight * value[other, at] for other, weight in enumerate(weights)))
        attended = layer.attention_norm(layer.attention_output(torch.cat(context)) + hidden[token])
        found[token] = layer.output_norm(layer.down(torch.nn.functional.gelu(layer.up(attended))) + attended)
    return found


def test_halted_tokens_keep_their_states_and_stay_keys_and_values() -> None:
    layer = taggers.tagger().encoder.layers[1]
    assert isinstance(layer, EncoderLayer)
    hidden = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    live = [0, 3, 5]
    with torch.inference_mode():
        found = halted_layer(layer, hidden.clone(), Layout([6]), torch.tensor(live))
        wanted = by_hand(layer, hidden, live)
    torch.testing.assert_close(found.double(), wanted, atol=ATOL, rtol=0)
    for halted in (1, 2, 4):
        assert torch.equal(found[halted], hidden[halted])


def slowly(
    model: taggers.Tagger, sentence: EncodedSentence, halting: Halting
) -> tuple[list[int], list[int], list[int]]:
    """Answers, depths and computed tokens of one sentence: every layer whole, then halted states put back."""
    with torch.inference_mode():
        batch = SentenceBatch.of([sentence])
        hidden = model.encoder.embeddings(batch.packed)
        ends = [*sentence.first.tolist()[1:], len(sentence.ids) - 1]
        words = [list(range(begin, end)) for begin, end in zip(sentence.first.tolist(), ends, strict=True)]
        answers, depths = [-1] * len(words), [0] * len(words)
        computed = []
        for depth, layer in enumerate(model.encoder.layers, start=1):
            assert isinstance(layer, EncoderLayer)
            halted = [token for word, given in zip(words, depths, strict=True) if given for token in word]
            computed.append(len(hidden) - len(halted))
            fed = layer.feed(layer.attend(hidden, batch.packed.layout, model.encoder.pattern)[0])
            fed[halted] = hidden[halted]
            hidden = fed
            if depth not in (*halting.after, 4):
                continue
            chances = torch.softmax(model.heads[str(depth)](hidden[sentence.first]), dim=-1)
            sure = [bool(given) or float(row.max()) >= halting.tau for row, given in zip(chances, depths, strict=True)]
            for word, row in enumerate(chances):
                near = sure[max(word - halting.window, 0) : word + halting.window + 1]
                if not depths[word] and (depth == 4 or all(sure if halting.rule == "sentence" else near)):
                    answers[word], depths[word] = int(row.argmax()), depth
            if all(depths):
                break
    return answers, depths, computed


@pytest.mark.parametrize(
    "halting",
    [
        Halting("sentence", (1, 2, 3), 0.45),
        Halting("token", (1, 2, 3), 0.6, 0),
        Halting("token", (1, 2, 3), 0.6, 1),
        Halting("token", (2,), 0.5, 2),
        Halting("token", (1, 3), 0.65, 0),
    ],
)
def test_the_forward_pass_is_the_slow_one_alone_and_in_a_batch(halting: Halting) -> None:
    model, given = taggers.tagger(), taggers.sentences([1, 4, 9, 12, 3, 2])
    slow = [slowly(model, sentence, halting) for sentence in given]
    assert {depth for _, depths, _ in slow for depth in depths} > {4}, "the case stops nowhere"
    for sentence, (answers, depths, computed) in zip(given, slow, strict=True):
        found = run(model, [sentence], halting)
        assert (found.answers.tolist(), found.depth.tolist()) == (answers, depths)
        assert [work.computed for work in found.work] == computed
        assert {work.keys for work in found.work} == {len(sentence.ids)}
        assert [work.pairs for work in found.work] == [count * len(sentence.ids) for count in computed]
    together = run(model, given, halting)
    order = SentenceBatch.of(given).packed.rows
    assert together.answers.tolist() == [answer for row in order for answer in slow[row][0]]
    assert together.depth.tolist() == [depth for row in order for depth in slow[row][1]]
    alone = [run(model, [sentence], halting).work for sentence in given]
    for number, work in enumerate(together.work):
        of_layer = [layers[number] for layers in alone if number < len(layers)]
        assert work.computed == sum(one.computed for one in of_layer)
        assert work.pairs == sum(one.pairs for one in of_layer)


def test_the_margin_is_the_smallest_distance_of_a_decision() -> None:
    model, (sentence,) = taggers.tagger(exits=(2,)), taggers.sentences([3])
    with torch.inference_mode():
        first = torch.softmax(model(SentenceBatch.of([sentence]))[2], dim=-1)
    tau = float(first.max(dim=-1).values.min()) - 0.003  # all are sure, one only just
    found = run(model, [sentence], Halting("sentence", (2,), tau), margins=True)
    assert found.depth.tolist() == [2] * 3
    best = first.topk(2, dim=-1).values
    assert found.margin == pytest.approx(min(0.003, float((best[:, 0] - best[:, 1]).min())), abs=1e-5)
    assert run(model, [sentence], Halting()).margin == math.inf


# --- work ---------------------------------------------------------------------------------------------------------


def test_flops_by_hand() -> None:
    """d = e = 2, m = 3 (intermediate), C = 5: 4 tokens, all computed in the first layer and 1 in the second."""
    import pandas as pd

    from eat.tagging.trace import flops_of

    trace = pd.DataFrame({"computed": [[4, 1]], "tokens": [4], "read": [7]})
    shape = {"shape": {"hidden": 2, "heads": 1, "head_size": 0, "intermediate": 3}, "tags": ["O"] * 5}
    whole = 8 * 2 * 2 * 4 + 4 * 2 * 16 + 4 * 2 * 3 * 4
    partial = 4 * 2 * 2 * 1 + 4 * 2 * 2 * 4 + 4 * 2 * 1 * 4 + 4 * 2 * 3 * 1
    assert flops_of(trace, shape).tolist() == [whole + partial + 2 * 2 * 5 * 7]
    assert whole == layer_operations(2, 2.0, 3.0, 4.0, 4.0, 16.0)


# --- training and files -------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_of_the_exits() -> None:
    logits = {1: torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), 2: torch.tensor([[math.log(9.0), 0.0]] * 2)}
    parts = joint_loss(logits, torch.tensor([0, 1]))
    assert float(parts["exit_1"]) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert float(parts["exit_2"]) == pytest.approx((math.log(10 / 9) + math.log(10)) / 2)


def test_a_saved_tagger_answers_the_same(tmp_path: Path) -> None:
    model, given = taggers.tagger(), taggers.sentences([5])
    model.save(tmp_path)
    again = load_tagger(tmp_path)
    assert again.tags == model.tags
    assert again.exits == [1, 2, 3, 4]
    assert torch.equal(again(SentenceBatch.of(given))[2], model(SentenceBatch.of(given))[2])


def test_other_files_are_no_tagger(tmp_path: Path) -> None:
    tiny.backbone(tmp_path / "bert")
    with pytest.raises(EatError, match="not eat-tagging"):
        load_tagger(tmp_path / "bert")
    taggers.tagger().save(tmp_path)
    taggers.tagger(exits=(1,)).save(tmp_path / "other")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(DamagedFile, match="not the tensors"):
        load_tagger(tmp_path)
