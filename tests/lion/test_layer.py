"""Voxels in groups: their order, the copies that fill the last group, and the way back to the rows."""

import math

import pytest
import torch
from tiny_network import Decay, sample_of, scattered

from visionseq.errors import ConfigError
from visionseq.lion.layer import PI, LIONLayer, PositionEmbedding, operator
from visionseq.lion.windows import group_places, window_order
from visionseq.nn.sparse import SparseTensor

SHAPE = (4, 10, 12)


def layer(group_size: int = 8, **changes) -> LIONLayer:
    return LIONLayer(4, Decay, (5, 5, 4), group_size, False, **changes).double()


def row_of(*xy: tuple[int, int]) -> SparseTensor:
    indices = torch.tensor([(0, 0, y, x) for x, y in xy])
    return SparseTensor(torch.arange(len(xy))[:, None] * torch.ones(4, dtype=torch.float64), indices, SHAPE, 1)


@pytest.mark.parametrize(
    ("counts", "sources", "places"),
    [
        ([3], [0, 1, 2, 0], [0, 1, 2]),  # one group: the list again from its start
        ([1], [0, 0, 0, 0], [0]),
        ([4], [0, 1, 2, 3], [0, 1, 2, 3]),
        ([5], [0, 1, 2, 3, 4, 1, 2, 3], [0, 1, 2, 3, 4]),  # the same places of the group before
        ([2, 0, 5], [0, 1, 0, 1, 2, 3, 4, 5, 6, 3, 4, 5], [0, 1, 4, 5, 6, 7, 8]),
        ([0], [], []),
    ],
)
def test_copies_fill_the_last_group_of_a_sample(counts, sources, places):
    found = group_places(counts, 4)
    assert found.sources.tolist() == sources
    assert found.places.tolist() == places


def test_windows_come_first_and_then_the_direction():
    x = row_of((0, 0), (0, 1), (1, 0), (5, 0), (0, 5), (1, 1))
    assert window_order(x.indices, SHAPE, (5, 5, 4), False, "x").tolist() == [0, 1, 2, 5, 4, 3]
    assert window_order(x.indices, SHAPE, (5, 5, 4), False, "y").tolist() == [0, 2, 1, 5, 3, 4]
    moved = row_of((2, 0), (3, 0), (0, 9))  # shifted by two, the window ends between the first two
    assert window_order(moved.indices, SHAPE, (5, 5, 4), True, "x").tolist() == [0, 2, 1]
    assert window_order(moved.indices, SHAPE, (5, 5, 4), False, "x").tolist() == [0, 1, 2]


def test_the_second_operator_sees_what_the_first_made_of_the_other_order():
    x = row_of((0, 0), (0, 1), (1, 0))
    network = layer(4)
    torch.nn.init.zeros_(network.blocks[0].gain)
    network(x)
    assert network.blocks[0].seen[0, :, 0].tolist() == [0, 1, 2, 0]
    assert network.blocks[1].seen[0, :, 0].tolist() == [0, 2, 1, 0]


def test_operators_that_change_nothing_leave_every_voxel_in_its_row():
    network, x = layer(), scattered([30, 0, 3], SHAPE)
    for block in network.blocks:
        torch.nn.init.zeros_(block.gain)
    assert torch.equal(network(x).features, x.features)


def test_the_order_of_the_rows_is_kept():
    x, network = scattered([30, 17], SHAPE), layer()
    order = torch.cat([torch.randperm(30), 30 + torch.randperm(17)])
    shuffled = SparseTensor(x.features[order], x.indices[order], SHAPE, 2)
    torch.testing.assert_close(network(shuffled).features, network(x).features[order])


def test_samples_do_not_see_each_other():
    x, network = scattered([30, 0, 3, 17], SHAPE), layer()
    together = network(x)
    for sample in range(4):
        alone = network(sample_of(x, sample))
        torch.testing.assert_close(sample_of(together, sample).features, alone.features)


def test_positions_go_from_minus_pi_to_pi():
    corners = torch.tensor([[0, 0, 0, 0], [0, 3, 9, 11], [0, 2, 5, 6]])
    x = SparseTensor(torch.zeros(3, 4, dtype=torch.float64), corners, SHAPE, 1)
    found = PositionEmbedding.location(x)
    assert found[0].tolist() == [-PI, -PI, -PI]
    torch.testing.assert_close(found[1], PI * torch.tensor([5 / 6, 4 / 5, 1 / 2], dtype=torch.float64))
    assert found[2].tolist() == [0, 0, 0]
    assert math.pi - PI < 1e-4


def test_positions_keep_all_columns_apart_in_half_precision():
    corners = torch.stack([torch.tensor([0, 0, 0, column]) for column in range(352)])
    x = SparseTensor(torch.zeros(352, 4, dtype=torch.bfloat16), corners, (32, 400, 352), 1)
    assert len(PositionEmbedding.location(x)[:, 0].unique()) == 352


def test_a_single_voxel_goes_by_the_running_statistics():
    embedding = PositionEmbedding(4).double().train()
    x = scattered([1], SHAPE)
    assert torch.equal(embedding(x), embedding.eval()(x))
    assert embedding.position_embedding_head[1].num_batches_tracked == 0


@pytest.mark.parametrize("name", ["Mamba", "RWKV"])
def test_activations_may_be_computed_again(name):
    x, gradients = scattered([20], SHAPE, channels=8), []
    for with_cp in (False, True):
        torch.manual_seed(0)
        network = LIONLayer(8, operator(name, with_cp=with_cp), (5, 5, 4), 16, False).double()
        network(x).features.square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layer(0), "group_size: 0"),
        (lambda: LIONLayer(4, Decay, (5, 0, 4), 8, False), "window_shape: 0"),
        (lambda: LIONLayer(4, Decay, (5, 5), 8, False), r"window_shape: \(5, 5\)"),
        (lambda: layer(direction=("x", "z")), r"direction \['x', 'z'\], expected x or y"),
        (lambda: operator("Mamba", unknown=1)(4, layer_id=0, n_layer=1), "operator Mamba: .*unknown"),
        (lambda: operator("LSTM"), "operator 'LSTM', expected one of Mamba"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
