"""Layout: where packed tokens lie, against loops over the rows."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from eat.model.layout import PADDED, SMALLEST_GROUP, Layout

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=7)


@given(LENGTHS)
def test_indices_are_those_of_a_loop_over_the_rows(lengths: list[int]) -> None:
    layout = Layout(lengths)
    rows = [row for row, length in enumerate(lengths) for _ in range(length)]
    positions = [position for length in lengths for position in range(length)]
    assert layout.row_of_token.tolist() == rows
    assert layout.positions.tolist() == positions
    assert layout.starts.tolist() == [sum(lengths[:row]) for row in range(len(lengths))]
    assert (layout.tokens, layout.rows, layout.longest) == (sum(lengths), len(lengths), max(lengths))
    assert layout.is_uniform == (len(set(lengths)) == 1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.booleans())
def test_groups_hold_every_row_once_and_little_padding(lengths: list[int], shortest_first: bool) -> None:
    lengths = sorted(lengths) if shortest_first else lengths
    groups = Layout(lengths).groups
    assert [length for group in groups for length in group.lengths] == lengths
    for group in groups[:-1]:
        assert group.rows >= SMALLEST_GROUP
        # the rows after the smallest group joined it only where few of the cells were padding then
        assert group.rows == SMALLEST_GROUP or group.rows * group.longest <= PADDED * group.tokens


@given(LENGTHS)
def test_unpad_undoes_pad_and_padding_repeats_a_row_s_last_token(lengths: list[int]) -> None:
    layout = Layout(lengths)
    packed = torch.arange(layout.tokens * 3).view(-1, 3)
    padded = layout.pad(packed)
    assert padded.shape == (len(lengths), max(lengths), 3)
    for row, part in enumerate(packed.split(lengths)):
        assert torch.equal(padded[row, : lengths[row]], part)
        assert (padded[row, lengths[row] :] == part[-1]).all()
        assert layout.live[row].tolist() == [cell < lengths[row] for cell in range(max(lengths))]
    assert torch.equal(layout.unpad(padded), packed)


@given(LENGTHS)
def test_mean_is_each_row_s_own(lengths: list[int]) -> None:
    layout = Layout(lengths)
    packed = torch.randn(layout.tokens, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([part.mean(dim=0) for part in packed.split(lengths)])
    torch.testing.assert_close(layout.mean(packed), expected, atol=1e-6, rtol=0)


@given(LENGTHS, st.data())
def test_keep_rows_gives_the_tokens_of_those_rows(lengths: list[int], data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(lengths))), min_size=1)))
    layout, tokens = Layout(lengths).keep_rows(rows)
    parts = torch.arange(sum(lengths)).split(lengths)
    assert layout.lengths == [lengths[row] for row in rows]
    assert torch.equal(tokens, torch.cat([parts[row] for row in rows]))
