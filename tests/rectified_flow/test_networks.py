"""The U-Nets against a plain re-expression of the papers, their presets, initial values, and modes of running."""

import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from code_generation import BACKEND
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.benchmarks.rectified_flow.plain_unet import plain_unet
from visionseq.errors import ConfigError
from visionseq.nn.checkpointing import checkpoint_activations
from visionseq.rectified_flow.model import build_network
from visionseq.rectified_flow.presets import PRESETS
from visionseq.rectified_flow.unet_block import UNetBlock
from visionseq.rectified_flow.unet_layers import Conv2d, GroupNorm, initial

SONG = {
    "type": "SongUNet",
    "img_resolution": 8,
    "in_channels": 2,
    "out_channels": 3,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "channel_mult_emb": 2,
    "num_blocks": 1,
    "attn_resolutions": [4],
    "dropout": 0.1,
    "resample_filter": [1, 3, 3, 1],
    "encoder_type": "residual",
}
ADM = {
    "type": "DhariwalUNet",
    "img_resolution": 8,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 64,
    "channel_mult": [1, 2],
    "channel_mult_emb": 1,
    "num_blocks": 1,
    "attn_resolutions": [4],
}


def randomized(config: dict, seed: int = 0) -> torch.nn.Module:
    """A network whose every parameter is drawn anew, so that no branch is zero."""
    torch.manual_seed(seed)
    network = build_network(config)
    for name, parameter in network.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=fan_in**-0.5)
    return network


def inputs(network: torch.nn.Module, batch: int = 2) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    size = (batch, network.in_channels, network.img_resolution, network.img_resolution)
    x, noise = torch.randn(size, generator=generator), torch.randn(batch, generator=generator)
    classes = torch.eye(network.label_dim)[:batch] if network.label_dim else None
    augment = torch.randn(batch, network.augment_dim, generator=generator) if network.augment_dim else None
    return [x, noise, classes, augment]


song_configs = st.fixed_dictionaries(
    {
        "img_resolution": st.sampled_from([8, 12]),
        "channel_mult": st.sampled_from([[1], [2, 1], [1, 2, 2], [1, 3]]),
        "num_blocks": st.integers(1, 2),
        "attn_resolutions": st.sampled_from([[], [4], [8, 4], [12, 6, 3]]),
        "embedding_type": st.sampled_from(["positional", "fourier"]),
        "channel_mult_noise": st.sampled_from([1, 2]),
        "encoder_type": st.sampled_from(["standard", "skip", "residual"]),
        "decoder_type": st.sampled_from(["standard", "skip"]),
        "resample_filter": st.sampled_from([[1, 1], [1, 3, 3, 1]]),
        "label_dim": st.sampled_from([0, 5]),
        "augment_dim": st.sampled_from([0, 9]),
    }
)


@settings(max_examples=25, deadline=None)
@given(options=song_configs)
def test_song_unet_is_the_plain_network(options):
    network = randomized({**SONG, **options}).double().eval()
    arguments = [a if a is None else a.double() for a in inputs(network)]
    torch.testing.assert_close(network(*arguments), plain_unet(network, *arguments), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"label_dim": 4, "augment_dim": 3}, {"channel_mult": [1], "num_blocks": 2}])
def test_dhariwal_unet_is_the_plain_network(options):
    network = randomized({**ADM, **options}).double().eval()
    arguments = [a if a is None else a.double() for a in inputs(network)]
    torch.testing.assert_close(network(*arguments), plain_unet(network, *arguments), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_plain_network():
    network = randomized({**SONG, "augment_dim": 2}).double().eval()
    arguments = [a if a is None else a.double() for a in inputs(network)]
    cotangent = torch.randn(network(*arguments).shape, dtype=torch.float64)
    ours = torch.autograd.grad(network(*arguments), list(network.parameters()), cotangent)
    plain = torch.autograd.grad(plain_unet(network, *arguments), list(network.parameters()), cotangent)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)  # the embedding's frequencies are float32


@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    [
        ("cifar10_ve_aug", 56_397_827, 432),
        ("afhq64_ve_aug", 62_761_091, 563),
        ("ffhq64_ve_aug", 62_761_091, 563),
        ("imagenet64", 295_899_267, 553),
    ],
)
def test_presets_have_the_official_size(name, parameters, entries):
    with torch.device("meta"):
        network = build_network(PRESETS[name].network)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(network.state_dict()) == entries


def test_official_names_and_shapes():
    with torch.device("meta"):
        cifar = build_network(PRESETS["cifar10_ve_aug"].network).state_dict()
        imagenet = build_network(PRESETS["imagenet64"].network).state_dict()
    shapes = {
        "map_noise.freqs": (128,),
        "map_augment.weight": (256, 9),
        "map_layer0.weight": (512, 256),
        "map_layer1.bias": (512,),
        "enc.32x32_conv.weight": (128, 3, 3, 3),
        "enc.32x32_block0.conv0.weight": (256, 128, 3, 3),
        "enc.16x16_aux_residual.weight": (256, 3, 3, 3),
        "enc.16x16_aux_residual.resample_filter": (1, 1, 4, 4),
        "enc.16x16_block3.qkv.weight": (768, 256, 1, 1),
        "enc.8x8_aux_residual.weight": (256, 256, 3, 3),
        "dec.8x8_in0.proj.weight": (256, 256, 1, 1),
        "dec.8x8_block4.skip.weight": (256, 512, 1, 1),
        "dec.16x16_up.skip.weight": (256, 256, 1, 1),
        "dec.16x16_block4.qkv.bias": (768,),
        "dec.32x32_block3.conv0.weight": (256, 512, 3, 3),
        "dec.32x32_block4.conv0.weight": (256, 384, 3, 3),
        "dec.32x32_aux_norm.weight": (256,),
        "dec.32x32_aux_conv.weight": (3, 256, 3, 3),
    }
    assert {name: tuple(cifar[name].shape) for name in shapes} == shapes
    assert "dec.16x16_block3.qkv.weight" not in cifar
    shapes = {
        "map_label.weight": (768, 1000),
        "enc.64x64_block0.affine.weight": (384, 768),
        "enc.32x32_down.skip.resample_filter": (1, 1, 2, 2),
        "dec.64x64_up.skip.resample_filter": (1, 1, 2, 2),
        "out_conv.weight": (3, 192, 3, 3),
    }
    assert {name: tuple(imagenet[name].shape) for name in shapes} == shapes
    assert "enc.32x32_down.skip.weight" not in imagenet
    assert "map_noise.freqs" not in imagenet


def test_names_of_the_skip_variant():
    names = build_network({**SONG, "encoder_type": "skip", "decoder_type": "skip"}).state_dict().keys()
    assert {"enc.4x4_aux_down.resample_filter", "enc.4x4_aux_skip.weight", "dec.4x4_aux_conv.weight"} <= names
    assert {"dec.4x4_aux_norm.weight", "dec.8x8_aux_up.resample_filter"} <= names
    assert "dec.4x4_aux_up.resample_filter" not in names


def test_attention_heads_of_adm_follow_the_width():
    with torch.device("meta"):
        network = build_network(PRESETS["imagenet64"].network)
    heads = [network.enc[f"{res}x{res}_block0"].num_heads for res in (64, 32, 16, 8)]
    assert heads == [0, 6, 9, 12]
    assert UNetBlock(8, 32, emb_channels=4, attention=True).num_heads == 0  # fewer than 64 channels: none at all


@pytest.mark.parametrize(
    ("mode", "deviation"),
    [
        ("xavier_uniform", math.sqrt(2 / (300 + 500))),
        ("kaiming_uniform", math.sqrt(1 / 300)),
        ("kaiming_normal", math.sqrt(1 / 300)),
    ],
)
def test_initialisers_have_their_deviation(mode, deviation):
    torch.manual_seed(0)
    values = initial((400, 500), mode, fan_in=300, fan_out=500)
    assert values.std().item() == pytest.approx(deviation, rel=0.01)
    assert abs(values.mean().item()) < 0.01 * deviation * 3
    if mode != "kaiming_normal":
        assert values.abs().max().item() <= deviation * math.sqrt(3)


def test_fresh_networks_start_as_the_papers_say():
    torch.manual_seed(0)
    song, adm = build_network(SONG), build_network({**ADM, "label_dim": 16, "augment_dim": 3})
    block = song.enc["4x4_block0"]
    assert block.conv1.weight.abs().max() <= 1e-5 * math.sqrt(6 / (2 * 16 * 9))
    assert block.qkv.weight.std().item() == pytest.approx(math.sqrt(0.2 * 2 / (16 + 48)), rel=0.1)
    assert not block.conv0.bias.any()
    assert not adm.out_conv.weight.any()
    assert not adm.map_augment.weight.any()
    assert not adm.enc["4x4_block0"].proj.weight.any()
    conv = adm.enc["4x4_block0"].conv0
    assert conv.weight.std().item() == pytest.approx(math.sqrt(1 / 3 / (64 * 9)), rel=0.1)
    assert conv.bias.std().item() == pytest.approx(math.sqrt(1 / 3 / (64 * 9)), rel=0.3)
    assert adm.map_label.weight.std().item() == pytest.approx(1, rel=0.1)


def test_weights_follow_the_dtype_of_the_input():
    conv, norm = Conv2d(4, 8, 3, up=True, resample_filter=[1, 3, 3, 1]), GroupNorm(4)
    x = torch.randn(2, 4, 4, 4)
    assert conv(norm(x.bfloat16())).dtype == torch.bfloat16
    assert conv(norm(x.double())).dtype == torch.float64
    assert conv.weight.dtype == norm.weight.dtype == torch.float32


def test_the_embedding_stays_float32_under_autocast():
    network = randomized(SONG).eval()
    x, noise, *_ = inputs(network)
    seen = []
    network.map_layer1.register_forward_hook(lambda module, args, output: seen.append((args[0].dtype, output)))
    network(x, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(x, noise).dtype == torch.bfloat16
    assert seen[1][0] == torch.float32
    assert torch.equal(seen[0][1], seen[1][1])


def plain_resample(x: torch.Tensor, taps: torch.Tensor, up: bool, padding: int) -> torch.Tensor:
    options = {"stride": 2, "padding": padding, "groups": x.shape[1]}
    weight = taps.repeat(x.shape[1], 1, 1, 1)
    return F.conv_transpose2d(x, 4 * weight, **options) if up else F.conv2d(x, weight, **options)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1], [1, 2, 3, 5]])
@pytest.mark.parametrize("channels", [3, 10])
def test_resampling_convolution_is_its_definition(fused, direction, kernel, taps, channels):
    up = direction == "up"
    conv = Conv2d(channels, 5, kernel, fused_resample=fused, resample_filter=taps, init_bias=1, **{direction: True})
    conv.double()
    x = torch.randn(2, channels, 8, 8, dtype=torch.float64, requires_grad=True)
    filters, w, b = conv.resample_filter, conv.weight, conv.bias[:, None, None]
    w_pad, f_pad = kernel // 2, (len(taps) - 1) // 2
    if not fused:
        y = F.conv2d(plain_resample(x, filters, up, f_pad), w, padding=w_pad) + b
    elif up:
        y = F.conv2d(plain_resample(x, filters, up, max(f_pad - w_pad, 0)), w, padding=max(w_pad - f_pad, 0)) + b
    else:
        y = plain_resample(F.conv2d(x, w, padding=w_pad + f_pad), filters, up, 0) + b
    cotangent = torch.randn_like(y)
    torch.testing.assert_close(conv(x), y)
    wanted = [x, *conv.parameters()]
    ours, plain = (torch.autograd.grad(result, wanted, cotangent) for result in (conv(x), y))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_resampling_has_second_derivatives():
    conv = Conv2d(2, 2, 0, up=True, resample_filter=[1, 3, 3, 1]).double()
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, x)
    assert torch.autograd.gradgradcheck(lambda x: conv(x).square(), x)


@pytest.mark.parametrize("config", [SONG, ADM], ids=lambda config: config["type"])
def test_channels_last_gives_the_same(config):
    network = randomized(config).eval()
    x, *rest = inputs(network)
    y = network(x, *rest)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last), *rest), y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [SONG, ADM], ids=lambda config: config["type"])
def test_gradients_under_autocast(config):
    network = randomized(config).train()
    arguments = inputs(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(*arguments)
    y.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("config", [SONG, ADM], ids=lambda config: config["type"])
def test_activation_checkpointing_leaves_gradients_alone(config):
    network = randomized({**config, "dropout": 0.3}).train()
    arguments, gradients = inputs(network), []
    for checkpointed in (False, True):
        if checkpointed:
            assert checkpoint_activations(network) > 1
        torch.manual_seed(5)  # of the dropout
        y = network(*arguments)
        gradients.append((y, *torch.autograd.grad(y.square().sum(), list(network.parameters()))))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_labels_are_dropped_in_training_only():
    network = randomized({**SONG, "label_dim": 3, "label_dropout": 1.0, "dropout": 0.0})
    x, noise, classes, _ = inputs(network)
    assert torch.equal(network.train()(x, noise, classes), network(x, noise, None))
    assert not torch.equal(network.eval()(x, noise, classes), network(x, noise, None))


def test_residual_mlp():
    network = build_network({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1})
    assert sum(parameter.numel() for parameter in network.parameters()) == 263_232
    conditional = build_network({"type": "ResidualMLP", "img_resolution": 4, "in_channels": 2, "label_dim": 3})
    x, noise, classes, _ = inputs(conditional)
    assert conditional(x, noise, classes).shape == x.shape
    assert conditional(x, noise[:1]).shape == x.shape
    assert not torch.equal(conditional(x, noise, classes), conditional(x, noise, classes.flip(0)))


@pytest.mark.parametrize("config", [SONG, ADM, {"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1}])
def test_config_rebuilds_the_network(config):
    network = build_network(config)
    assert build_network(network.config).state_dict().keys() == network.state_dict().keys()
    assert network.config.items() >= config.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "os.system"}, "os.system"),
        ({"img_resolution": 9}, "img_resolution 9"),
        ({"channel_mult": []}, "channel_mult"),
        ({"encoder_type": "residul"}, "residul"),
        ({"embedding_type": "none"}, "embedding_type"),
        ({"num_block": 3}, "num_block"),
        ({"model_channels": 10, "channel_mult": [15]}, "150 channels"),
    ],
)
def test_unusable_configurations_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        build_network({**SONG, **change})


@pytest.mark.parametrize("config", [SONG, ADM], ids=lambda config: config["type"])
def test_networks_are_one_graph(config):
    network = randomized({**config, "label_dim": 3}).eval()
    arguments = inputs(network)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), network(*arguments), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_compiled_network_gives_the_same():
    network = randomized({**SONG, "channel_mult": [1], "attn_resolutions": []}).eval()
    arguments = inputs(network)
    compiled = torch.compile(network, backend=BACKEND, fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), network(*arguments), atol=1e-5, rtol=1e-5)
