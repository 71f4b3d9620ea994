"""The adaptive-LayerNorm block against its equations written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visionseq.errors import ConfigError
from visionseq.nn.adaptive import AdaptiveBlock, AdaptiveOutput, Attention, FeedForward
from visionseq.nn.embeddings import rotary_angles, rotate_pairs

DIM, TOKENS = 8, 5


def randomized(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module.double()


def block(**options) -> AdaptiveBlock:
    torch.manual_seed(0)
    return AdaptiveBlock(DIM, Attention(DIM, 2), FeedForward(DIM, 12), **options)


def norm(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def plain_attention(attn: Attention, x, angles=None):
    q, k, v = (part.view(*x.shape[:2], 2, -1) for part in attn.qkv(x).chunk(3, -1))
    if angles is not None:
        q, k = rotate_pairs(q, angles), rotate_pairs(k, angles)
    weights = (torch.einsum("bqhk,bshk->bhqs", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return attn.proj(torch.einsum("bhqs,bshk->bqhk", weights, v).flatten(2))


@pytest.mark.parametrize("per_token", [False, True])
def test_the_block_is_its_equations(per_token):
    module = randomized(block(condition_dim=6))
    x = torch.randn(3, TOKENS, DIM, dtype=torch.float64)
    c = torch.randn(3, TOKENS if per_token else 1, 6, dtype=torch.float64)
    linear = module.adaLN_modulation[1]
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = linear(F.silu(c)).split(DIM, -1)
    expected = x + gate_a * plain_attention(module.attn, norm(x) * (1 + scale_a) + shift_a)
    hidden = F.gelu(module.mlp.fc1(norm(expected) * (1 + scale_m) + shift_m), approximate="tanh")
    expected = expected + gate_m * module.mlp.fc2(hidden)
    torch.testing.assert_close(module(x, c if per_token else c[:, 0]), expected)


def test_a_new_block_is_the_identity_and_a_new_output_zero():
    x, c = torch.randn(2, TOKENS, DIM), torch.randn(2, DIM)
    torch.testing.assert_close(block()(x, c), x, atol=0, rtol=0)
    assert not AdaptiveOutput(DIM, 3)(x, c).any()


def test_the_output_is_a_modulated_norm_and_a_linear_map():
    module = randomized(AdaptiveOutput(DIM, 3, condition_dim=4))
    x, c = torch.randn(2, TOKENS, DIM, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    shift, scale = module.adaLN_modulation[1](F.silu(c)).unsqueeze(1).split(DIM, -1)
    torch.testing.assert_close(module(x, c), module.linear(norm(x) * (1 + scale) + shift))


def test_a_shared_modulation_adds_to_that_of_the_block():
    module = randomized(block())
    x, c = torch.randn(2, TOKENS, DIM, dtype=torch.float64), torch.randn(2, DIM, dtype=torch.float64)
    shared = torch.randn(6 * DIM, dtype=torch.float64)
    added = module(x, c, shared)
    with torch.no_grad():
        module.adaLN_modulation[1].bias += shared
    torch.testing.assert_close(module(x, c), added)


def test_attention_that_needs_more_than_tokens_comes_in_as_a_function():
    module, x = randomized(block()), torch.randn(2, 6, DIM, dtype=torch.float64)
    c, angles = torch.randn(2, DIM, dtype=torch.float64), rotary_angles((2, 3), DIM // 2)
    turned = module(x, c, attend=lambda h: module.attn(h, angles))
    assert not torch.allclose(turned, module(x, c))
    torch.testing.assert_close(module.attn(x, angles), plain_attention(module.attn, x, angles))


def test_normed_queries_and_keys():
    attn = randomized(Attention(DIM, 2, q_norm=nn.RMSNorm(4, eps=1e-6), k_norm=nn.RMSNorm(4, eps=1e-6)))
    x = torch.randn(2, TOKENS, DIM, dtype=torch.float64)
    scaled = attn(x)
    with torch.no_grad():
        attn.qkv.weight[: 2 * DIM] *= 7
        attn.qkv.bias[: 2 * DIM] *= 7
    torch.testing.assert_close(attn(x), scaled, atol=1e-6, rtol=1e-5)


def test_channels_that_do_not_divide_into_heads():
    with pytest.raises(ConfigError, match="8 channels do not divide into 3 heads"):
        Attention(8, 3)


def weighted(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, 1e-6, bias=False)


def test_a_norm_with_a_weight_scales_what_the_plain_one_gives():
    scaled, plain = randomized(block(norm=weighted)), block().double()
    assert set(scaled.state_dict()) - set(plain.state_dict()) == {"norm1.weight", "norm2.weight"}
    x, c = torch.randn(2, TOKENS, DIM, dtype=torch.float64), torch.randn(2, DIM, dtype=torch.float64)
    with torch.no_grad():
        for norm in (scaled.norm1, scaled.norm2):
            norm.weight.fill_(1.0)
        plain.load_state_dict({name: value for name, value in scaled.state_dict().items() if "norm" not in name})
        torch.testing.assert_close(scaled(x, c), plain(x, c))
        for norm in (scaled.norm1, scaled.norm2):
            norm.weight.fill_(2.0)
    assert not torch.allclose(scaled(x, c), plain(x, c))


def test_an_output_with_a_norm_and_a_modulation_of_its_own():
    modulation = nn.Sequential(nn.Tanh(), nn.Linear(4, 2 * DIM))
    module = randomized(AdaptiveOutput(DIM, 3, modulation=modulation, norm=weighted))
    x, c = torch.randn(2, TOKENS, DIM, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    shift, scale = modulation(c).unsqueeze(1).split(DIM, -1)
    expected = module.linear(norm(x) * module.norm_final.weight * (1 + scale) + shift)
    torch.testing.assert_close(module(x, c), expected)


def test_an_mlp_without_biases():
    assert set(FeedForward(DIM, 12, bias=False).state_dict()) == {"fc1.weight", "fc2.weight"}
