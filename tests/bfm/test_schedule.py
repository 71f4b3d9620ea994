"""Segments and step times."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.bfm.schedule import (
    boundaries,
    ode_times,
    sde_times,
    segment_of,
    segments_by_position,
    split_sizes,
    times_within,
)
from visionseq.errors import ConfigError


@given(st.integers(0, 50), st.integers(1, 8))
def test_a_batch_is_cut_into_equal_parts_the_first_of_which_are_larger(rows, segments):
    sizes = split_sizes(rows, segments)
    assert sum(sizes) == rows
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1
    assert torch.bincount(segments_by_position(rows, segments), minlength=segments).tolist() == sizes


@given(st.integers(1, 8), st.data())
def test_times_lie_in_their_segments(segments, data):
    segment = torch.tensor([data.draw(st.integers(0, segments - 1))])
    u = torch.tensor([data.draw(st.floats(0, 0.9990234375, width=32))])
    t, sigma = times_within(segment, u, segments), boundaries(segments)
    assert sigma[segment + 1] <= t <= sigma[segment]


def test_a_boundary_belongs_to_the_segment_that_begins_there():
    assert segment_of(torch.tensor([1.0, 0.75, 0.5, 0.4, 0.0]), 4).tolist() == [0, 1, 2, 2, 3]


def test_a_segment_ends_where_the_next_one_begins():
    times = ode_times(6, 5)
    assert times[1:, 0].equal(times[:-1, -1])
    assert times[0, 0] == 1
    assert times[-1, -1] == 0
    assert sde_times(6, 5)[:-1].equal(times[:-1])
    assert sde_times(6, 5)[-1, -2:].tolist() == pytest.approx([0.04, 0])


@pytest.mark.parametrize(
    ("call", "message"), [(lambda: boundaries(0), "segments 0"), (lambda: ode_times(3, 0), "0 steps")]
)
def test_numbers_that_make_no_schedule(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
