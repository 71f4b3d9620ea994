"""The stream of keys: permutations, positions, ranks, class balance; and draws by key."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from visionseq.data.sampler import ClassBalancedOrder, SequentialSampler, ShuffledOrder, StreamSampler, spread
from visionseq.data.seeding import GlobalDraw, generator_for, seed_of, seeds_of
from visionseq.errors import ConfigError

INT64 = st.integers(-(2**63), 2**63 - 1)


def take(sampler, count: int) -> list[np.ndarray]:
    return list(itertools.islice(sampler, count))


@given(st.lists(INT64, min_size=1, max_size=4), st.lists(INT64, min_size=1, max_size=5))
def test_seeds_of_rows_are_seeds_of_their_keys(keys, last):
    rows = seeds_of(*keys, np.array(last))
    assert rows.tolist() == [seed_of(*keys, key) for key in last]
    assert all(0 <= seed < 2**63 for seed in rows.tolist())


def test_seeds_depend_on_order_and_number_of_keys():
    seeds = [seed_of(), seed_of(0), seed_of(0, 0), seed_of(1), seed_of(1, 0), seed_of(0, 1), seed_of(-1)]
    assert len(set(seeds)) == len(seeds)
    assert torch.rand(3, generator=generator_for(1, 2)).equal(torch.rand(3, generator=generator_for(1, 2)))


@given(st.integers(1, 4), st.integers(1, 5))
def test_global_draw_of_all_ranks_together_is_the_draw_of_one_process(world, rows):
    def fn(n, generator):
        return torch.randn(n, 2, generator=generator)

    whole = GlobalDraw(3, 7)
    parts = [GlobalDraw(3, 7, rank=rank, world=world) for rank in range(world)]
    for _ in range(2):  # the second draw goes on where the first ended
        expected = whole(fn, rows * world)
        shares = [part.draw(fn, rows) for part in parts]
        assert torch.stack(shares, 1).flatten(0, 1).equal(expected)


@settings(max_examples=50)
@given(st.integers(1, 23), st.integers(1, 9), st.integers(0, 100), st.integers(0, 10))
def test_the_stream_goes_on_from_any_position(length, batch_size, position, seed):
    order = ShuffledOrder(np.arange(length), seed)
    keys = np.concatenate(take(StreamSampler(order, batch_size), (position + 5 * batch_size) // batch_size + 2))
    resumed = np.concatenate(take(StreamSampler(order, batch_size, position), 5))
    assert (resumed == keys[position : position + 5 * batch_size]).all()
    whole_epochs = keys[: len(keys) // length * length].reshape(-1, length, 2)
    for number, epoch in enumerate(whole_epochs):
        assert (epoch[:, 0] == number).all()
        assert sorted(epoch[:, 1]) == list(range(length))


@given(st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 50))
def test_ranks_take_turns_in_the_global_batch(world, position):
    order = ShuffledOrder(np.arange(17), 0)
    whole = take(StreamSampler(order, 12, position), 4)
    shares = [take(StreamSampler(order, 12, position, rank, world), 4) for rank in range(world)]
    for number, batch in enumerate(whole):
        assert (np.stack([share[number] for share in shares], 1).reshape(-1, 2) == batch).all()


@given(st.integers(1, 30), st.sampled_from([4, 8, 12]), st.sampled_from([1, 2, 4]))
def test_evaluation_meets_every_sample_once(length, batch_size, world):
    assume(length >= world)
    samplers = [SequentialSampler(np.arange(length), batch_size, rank, world) for rank in range(world)]
    batches = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(found) for found in batches]
    seen = [index for found in batches for batch in found for index in batch[:, 1]]
    assert sorted(seen) == list(range(length))
    if world == 1:
        assert seen == list(range(length))


def test_class_balance_visits_classes_equally_and_all_samples_of_each():
    labels = np.array([0] * 50 + [1] * 5 + [2] * 10)
    order = ClassBalancedOrder(np.arange(65), labels, seed=1)
    keys = [order.keys(epoch) for epoch in range(6)]
    for epoch in keys:
        assert np.bincount(labels[epoch[:, 1]]).tolist() == [22, 22, 22]
        assert len(np.unique(epoch, axis=0)) == len(epoch)  # a sample that comes twice has two keys
    everything = np.concatenate(keys)
    assert set(everything[:, 1]) == set(range(65))
    rare = everything[labels[everything[:, 1]] == 1]
    assert np.bincount(rare[:, 1])[50:55].max() - np.bincount(rare[:, 1])[50:55].min() <= 1
    assert not (keys[0][:, 1] == keys[1][:, 1]).all()


def test_limit_spreads_over_sorted_classes():
    assert spread(10, None).tolist() == spread(10, 99).tolist() == list(range(10))
    assert spread(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(0, 5).tolist() == []


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ConfigError, match="multiple of the 4 processes"):
        StreamSampler(ShuffledOrder(np.arange(9), 0), 6, world=4)
    with pytest.raises(ConfigError, match="empty"):
        StreamSampler(ShuffledOrder(np.arange(0), 0), 6)
    with pytest.raises(ConfigError, match="eval_batch_size"):
        SequentialSampler(np.arange(9), 5, world=2)
    with pytest.raises(ConfigError, match="1 sample for 2 processes, expected at least one for each"):
        SequentialSampler(np.arange(1), 4, rank=1, world=2)
