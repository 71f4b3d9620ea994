"""What single mixers promise beside the contract."""

import pytest
import torch
from random_modules import DIM, tokens, with_random_weights
from torch import nn
from torch.testing import assert_close

from visionseq.errors import ConfigError
from visionseq.nn import mixers
from visionseq.nn.mixers import (
    GRU,
    LSTM,
    MLSTM,
    RWKV7,
    SLSTM,
    DeltaNet,
    GatedLinearAttention,
    MultiScaleRetention,
    RetNet,
    SoftmaxAttention,
    TTTLinear,
)
from visionseq.nn.mixers.norms import unit_length


def test_one_head_is_torch_lstm():
    ours, theirs = LSTM(DIM).double(), nn.LSTM(DIM, DIM, batch_first=True).double()
    with torch.no_grad():  # torch's rows i, f, g, o are our gates i, f, z, o
        ours.in_proj.weight.copy_(theirs.weight_ih_l0)
        ours.recurrent_weight.copy_(theirs.weight_hh_l0.view(4, 1, DIM, DIM))
        ours.bias.copy_((theirs.bias_ih_l0 + theirs.bias_hh_l0).view(4, 1, DIM))
    x = tokens(2, 6)
    y, state = ours(x)
    expected, (h, c) = theirs(x)
    assert_close(y, expected)
    assert_close(state[:, :, 0].transpose(0, 1), torch.cat([h, c]))


def test_one_head_is_torch_gru():
    ours, theirs = GRU(DIM).double(), nn.GRU(DIM, DIM, batch_first=True).double()
    with torch.no_grad():
        ours.in_proj.weight.copy_(theirs.weight_ih_l0)
        r, z, n = theirs.weight_hh_l0.view(3, 1, DIM, DIM)
        ours.recurrent_weight.copy_(torch.stack([n, r, z]))
        (r, z, n), (own_r, own_z, g) = theirs.bias_ih_l0.view(3, 1, DIM), theirs.bias_hh_l0.view(3, 1, DIM)
        ours.bias.copy_(torch.stack([g, r + own_r, z + own_z, n]))
    x = tokens(2, 6)
    assert_close(ours(x)[0], theirs(x)[0])


def test_retention_forms_agree_but_for_eps():
    torch.manual_seed(0)
    layer, x = with_random_weights(MultiScaleRetention(DIM, 2)).double(), tokens(2, 12)
    scanned, _ = layer(x)
    layer.parallel = True
    assert_close(layer(x)[0], scanned, rtol=1e-3, atol=1e-3)


def test_chunks_of_one_token_are_causal_retention():
    torch.manual_seed(0)
    causal, x = RetNet(DIM, 2, causal=True).double(), tokens(2, 9)
    chunked = RetNet(DIM, 2, chunk_size=1).double()
    chunked.load_state_dict(causal.state_dict())
    assert_close(chunked(x)[0], causal(x)[0])


def test_mean_of_both_directions():
    torch.manual_seed(0)
    one, x = TTTLinear(DIM, 2, mini_batch_size=4).double(), tokens(2, 9)
    both = TTTLinear(DIM, 2, mini_batch_size=4, bidirectional="mean").double()
    both.load_state_dict(one.state_dict())
    assert_close(both(x)[0], (one(x)[0] + one(x.flip(1))[0].flip(1)) / 2)


def test_ttt_goes_on_from_sequences_at_different_places_of_a_mini_batch():
    torch.manual_seed(0)
    mixer = TTTLinear(DIM, 2, mini_batch_size=4).double()
    parts = [tokens(1, length, seed=length) for length in (3, 6, 8)]
    _, state = mixer(torch.cat(parts, 1), cu_seqlens=torch.tensor([0, 3, 9, 17]))
    assert state.count.tolist() == [3, 2, 0]
    rest = tokens(3, 5, seed=20)
    y, _ = mixer(rest, state)
    for i, part in enumerate(parts):
        expected, _ = mixer(torch.cat([part, rest[i : i + 1]], 1))
        assert_close(y[i], expected[0, -5:])


def test_caches_of_unequal_length_go_on():
    mixer = SoftmaxAttention(DIM, 2).double()
    parts = [tokens(1, length, seed=length) for length in (3, 5)]
    _, state = mixer(torch.cat(parts, 1), cu_seqlens=torch.tensor([0, 3, 8]))
    y, state = mixer.step(tokens(2, seed=9), state)
    assert state.count.tolist() == [4, 6]
    for i, part in enumerate(parts):
        expected, _ = mixer(torch.cat([part, tokens(2, seed=9)[i].view(1, 1, DIM)], 1))
        assert_close(y[i], expected[0, -1])


def test_forget_biases_of_slstm_go_from_remembering_to_forgetting():
    bias = SLSTM(16, heads=2).bias
    assert_close(bias[1, 0, [0, -1]], torch.tensor([5.0, -7.0]))
    assert bias[[0, 2, 3]].abs().max() == 0


def test_length_of_a_zero_vector_has_a_finite_gradient():
    x = torch.zeros(3, requires_grad=True)
    unit_length(x).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() <= 1e3 + 1


@pytest.mark.parametrize(
    "build",
    [
        lambda: RetNet(DIM, 3),
        lambda: MultiScaleRetention(DIM, 8),
        lambda: RWKV7(DIM, 3),
        lambda: MLSTM(DIM, heads=3),
        lambda: SLSTM(DIM, heads=3),
        lambda: TTTLinear(DIM, 8),
        lambda: GatedLinearAttention(DIM, 3),
        lambda: DeltaNet(DIM, 3),
        lambda: LSTM(DIM, 3),
        lambda: SoftmaxAttention(DIM, 3),
    ],
)
def test_heads_must_divide_the_width(build):
    with pytest.raises(ConfigError, match="do not divide"):
        build()


def test_options_that_do_not_exist_are_named():
    with pytest.raises(ConfigError, match="bidirectional='sum'"):
        TTTLinear(DIM, 2, bidirectional="sum")
    with pytest.raises(ConfigError, match="gate='token'"):
        GatedLinearAttention(DIM, 2, gate="token")


def test_all_names_load():
    assert all(isinstance(getattr(mixers, name), type) for name in mixers.__all__)
    assert set(mixers.__all__) <= set(dir(mixers))
    with pytest.raises(AttributeError, match="build"):
        mixers.build  # noqa: B018
