"""LION's operator blocks: groups, directions, checkpoints, drop path, and the official names in their order."""

import pytest
import torch
from operator_cases import BLOCKS
from random_modules import DIM, tokens, with_random_weights
from torch.testing import assert_close

from visionseq.errors import ConfigError, KernelArgumentError
from visionseq.lion.operators import MambaBlock, RetNetBlock, RWKV6Block, XLSTMBlock
from visionseq.nn.mixers import Mamba

LENGTHS = [5, 0, 1, 9]
OFFSETS = torch.tensor([0, 5, 5, 6, 15])
every_block = pytest.mark.parametrize("name", BLOCKS)


def make(name: str, **options):
    torch.manual_seed(0)
    return with_random_weights(BLOCKS[name](**options)).double().eval()


@every_block
def test_packed_groups_are_separate(name):
    block, x = make(name), tokens(1, sum(LENGTHS))
    for reverse in (False, True):
        y = block(x, cu_seqlens=OFFSETS, reverse=reverse)
        separate = torch.cat([block(part, reverse=reverse) for part in x.split(LENGTHS, 1)], 1)
        assert_close(y, separate, rtol=1e-9, atol=1e-11)


@every_block
def test_reverse_is_flip(name):
    block, x = make(name), tokens(2, 11)
    assert_close(block(x, reverse=True), block(x.flip(1)).flip(1), rtol=1e-9, atol=1e-11)


@every_block
def test_checkpointing_changes_nothing(name):
    x = tokens(4, 6)
    results = []
    for with_cp in (False, True):
        block, leaf = make(name, with_cp=with_cp, drop_path=0.5).train(), x.clone().requires_grad_()
        torch.manual_seed(1)
        y = block(leaf)
        y.square().sum().backward()
        results.append([y, leaf.grad, *(parameter.grad for parameter in block.parameters())])
    assert all(torch.equal(plain, again) for plain, again in zip(*results, strict=True))


@every_block
def test_half_precision(name):
    block, x = make(name, drop_path=0.5, with_cp=True).float().train(), tokens(4, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    y.square().sum().backward()
    assert y.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())
    expected = block.eval()(x)
    y = block.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), expected, rtol=0.1, atol=0.1)


@every_block
def test_all_parameters_have_gradients(name):
    block = make(name)
    block(tokens(2, 6)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in block.parameters())


@every_block
def test_no_drop_path_in_evaluation(name):
    assert torch.equal(make(name, drop_path=0.9)(tokens(3, 6)), make(name)(tokens(3, 6)))


@pytest.mark.parametrize("packed", [False, True], ids=["batch", "packed"])
def test_drop_path_takes_or_scales_whole_groups(packed):
    block, x = make("mamba", drop_path=0.25), tokens(32, 3)
    branch = block(x) - x
    torch.manual_seed(0)
    block.train()
    y = block(x.reshape(1, 96, DIM), cu_seqlens=torch.arange(33) * 3).view_as(x) if packed else block(x)
    kept = (y - x).abs().amax((1, 2)) > 0
    assert 16 <= kept.sum() <= 30
    assert_close(y[kept] - x[kept], branch[kept] / 0.75)


def test_ttt_mlp_is_never_dropped():
    block, x = make("ttt", drop_path=0.99), tokens(4, 6)
    block.train()
    torch.manual_seed(0)
    assert_close(block(x), x + block.mlp(block.ffn_norm(x)))


@pytest.mark.parametrize("packed", [False, True], ids=["batch", "packed"])
def test_xlstm_drops_a_fixed_number_of_groups(packed):
    block, x = make("xlstm", drop_path=0.2), tokens(7, 3)
    branch = block.rowwise_from_top_left(x, None, False)
    block.train()
    row, offsets = x.reshape(1, 21, DIM), torch.arange(8) * 3
    given = (row, offsets) if packed else (x, None)
    y = block._residual(block.rowwise_from_top_left, *given, False).reshape_as(x)
    kept = (y - x).abs().amax((1, 2)) > 0
    assert kept.sum() == 5  # int(7 * 0.8)
    assert_close(y[kept] - x[kept], branch[kept] * 7 / 5)


def test_xlstm_keeps_a_lone_group():
    block, x = make("xlstm", drop_path=0.2), tokens(1, 3)
    expected = block(x)
    assert torch.equal(block.train()(x), expected)


def test_unfit_arguments_are_named():
    with pytest.raises(ConfigError, match="drop_path"):
        MambaBlock(DIM, drop_path=1.0)
    with pytest.raises(KernelArgumentError, match="cu_seqlens"):
        make("retnet")(tokens(1, 4), cu_seqlens=torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match="3 heads"):
        RWKV6Block(DIM, n_head=3)


def test_mamba_has_the_official_order_and_size():
    names = list(MambaBlock(64).state_dict())
    own = ["A_log", "D", "A_b_log", "D_b", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight"]
    own += ["dt_proj.weight", "dt_proj.bias", "conv1d_b.weight", "conv1d_b.bias", "x_proj_b.weight"]
    own += ["dt_proj_b.weight", "dt_proj_b.bias", "out_proj.weight"]
    assert names == [f"mamba.{name}" for name in own] + ["norm.weight", "norm.bias"]
    assert sum(parameter.numel() for parameter in MambaBlock(64).mamba.parameters()) == 40704


def test_rwkv6_has_the_official_order():
    names = list(RWKV6Block(DIM, layer_id=0, n_layer=4, n_head=2).state_dict())
    assert names[:8] == [
        *("gamma1", "gamma2", "ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias", "ln0.weight", "ln0.bias")
    ]
    parts = [name.partition(".")[0] for name in names[8:]]
    assert parts == sorted(parts)  # att.* before ffn.*
    assert not any("ln0" in name for name in RWKV6Block(DIM, layer_id=1, n_layer=4, n_head=2).state_dict())


def test_mamba_marks_what_is_exempt_from_weight_decay():
    marked = [name for name, p in MambaBlock(DIM).named_parameters() if getattr(p, "_no_weight_decay", False)]
    assert marked == ["mamba.A_log", "mamba.D", "mamba.A_b_log", "mamba.D_b"]


def test_initial_values_of_mamba():
    torch.manual_seed(0)
    mamba = Mamba(64, bidirectional=True)
    dt = torch.nn.functional.softplus(mamba.dt_proj.bias)
    assert dt.min() >= 1e-3 * 0.99
    assert dt.max() <= 1e-1 * 1.01
    assert torch.nn.functional.softplus(mamba.dt_proj_b.bias).min() > 0.2  # left to nn.Linear
    assert_close(mamba.A_log.exp(), torch.arange(1.0, 17).expand(128, 16))


def test_initial_values_of_xlstm_and_retnet():
    torch.manual_seed(0)
    layer = XLSTMBlock(64).rowwise_from_top_left.layer
    assert_close(layer.proj_up.weight.std().item(), (2 / (5 * 64)) ** 0.5, rtol=0.05, atol=0)
    assert_close(layer.proj_down.weight.std().item(), 2 / 8, rtol=0.05, atol=0)
    assert layer.proj_up.bias.abs().max() == layer.q_proj.bias.abs().max() == 0
    weight = RetNetBlock(64, n_head=2).multi_scale_retention.v_proj.weight
    bound = 2**-2.5 * (6 / (64 + 128)) ** 0.5
    assert_close(weight.abs().max().item(), bound, rtol=0.02, atol=0)
