"""EDM preconditioning and the velocity made of it."""

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network

MLP = {"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1, "hidden": 32, "num_blocks": 2}


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    return EDMDenoiser(build_network({**MLP, "label_dim": 3})).eval()


def pair(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(batch, 1, 4, 4, generator=generator) for _ in range(2))
    return x, z, torch.linspace(0.05, 0.95, batch)


def test_denoiser_follows_the_preconditioning(denoiser):
    y, _, _ = pair()
    sigma = torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0])
    s = sigma.view(-1, 1, 1, 1)
    root = (s**2 + 0.25).sqrt()
    output = denoiser.model(y / root, sigma.log() / 4, torch.zeros(5, 3))
    torch.testing.assert_close(denoiser(y, sigma), 0.25 / root**2 * y + 0.5 * s / root * output)


def test_denoiser_at_no_noise_returns_its_input(denoiser):
    y, _, _ = pair()
    torch.testing.assert_close(denoiser(y, torch.tensor(1e-6)), y, atol=1e-5, rtol=1e-5)


def test_velocity_is_the_exact_change_of_variables(denoiser):
    velocity = EDMVelocity(denoiser.model)
    x, z, t = pair()
    t4 = t.view(-1, 1, 1, 1)
    x_t = (1 - t4) * x + t4 * z
    v = velocity(x_t, t)
    torch.testing.assert_close(x_t - t4 * v, denoiser(x_t / (1 - t4), t / (1 - t)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(velocity.denoise(x_t, t), denoiser(x_t, t))


def test_wrappers_share_one_network(denoiser):
    velocity = EDMVelocity(denoiser.model)
    assert velocity.model is denoiser.model
    assert velocity.state_dict().keys() == denoiser.state_dict().keys()
    assert all(key.startswith("model.") for key in velocity.state_dict())


def test_scalar_and_batched_times_agree(denoiser):
    velocity, (x, _, _) = EDMVelocity(denoiser.model), pair()
    batched = velocity(x, torch.full((5,), 0.3))
    torch.testing.assert_close(velocity(x, torch.tensor(0.3)), batched)
    torch.testing.assert_close(velocity(x, 0.3), batched)
    torch.testing.assert_close(denoiser(x, 0.7), denoiser(x, torch.full((5,), 0.7)))


def test_classes_as_indices_and_one_hot_agree(denoiser):
    x, _, t = pair()
    labels = torch.tensor([0, 1, 2, 1, 0])
    one_hot = torch.eye(3)[labels]
    assert torch.equal(denoiser(x, t, labels), denoiser(x, t, one_hot))
    assert torch.equal(denoiser(x, t), denoiser(x, t, torch.zeros(5, 3)))
    assert not torch.equal(denoiser(x, t), denoiser(x, t, labels))
    unconditional = EDMDenoiser(build_network(MLP))
    assert torch.equal(unconditional(x, t, labels), unconditional(x, t))


@pytest.mark.parametrize("kind", [EDMDenoiser, EDMVelocity])
@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0.0, 1.0, 2.0]),  # as many as there are classes: taken for one one-hot row before
        torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0]),
        torch.tensor([True, False, True, True, False]),
        torch.zeros(5, 4),
        torch.zeros(5, 1, dtype=torch.int64),
        torch.zeros(5, 1, 3),
        torch.tensor(1.0),
        torch.tensor([0, 1, 2, 3, 0]),
        torch.tensor([0, -1, 2, 0, 0]),
    ],
)
def test_labels_that_are_neither_integers_nor_one_hot_rows_are_refused(denoiser, kind, labels):
    x, _, t = pair()
    with pytest.raises(ConfigError, match="class_labels"):
        kind(denoiser.model)(x, t, labels)
    with pytest.raises(ConfigError, match="class_labels"):
        kind(denoiser.model).sample(x, 2, class_labels=labels)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_one_integer_stands_for_all_rows(denoiser, dtype):
    x, _, t = pair()
    expected = denoiser(x, t, torch.full((5,), 2))
    torch.testing.assert_close(denoiser(x, t, torch.tensor(2, dtype=dtype)), expected)
    torch.testing.assert_close(denoiser(x, t, torch.tensor([2], dtype=dtype)), expected)
    torch.testing.assert_close(denoiser(x, t, torch.eye(3, dtype=dtype)[2:]), expected)


def test_time_and_denoiser_stay_float32_under_autocast(denoiser):
    velocity, (x, _, t) = EDMVelocity(denoiser.model), pair()
    seen = []
    denoiser.model.map_noise.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    velocity(x, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v, D = velocity(x, t), denoiser(x, t)
        half = velocity(x.bfloat16(), t)
    assert v.dtype == D.dtype == half.dtype == torch.float32
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])
    torch.testing.assert_close(velocity(x, t), v, atol=0.1, rtol=0.1)


def test_a_float64_state_keeps_its_precision(denoiser):
    x, _, t = pair()
    D = denoiser(x.double(), t.double())
    assert D.dtype == torch.float32
    assert EDMVelocity(denoiser.model)(x.double(), t).dtype == torch.float64


def test_sigma_at_the_noise_end_is_that_of_a_float32_time():
    t = torch.tensor([1 - 1e-5])
    assert (t / (1 - t)).item() == pytest.approx(99863.38, rel=1e-6)
    network = build_network(MLP)
    seen = []
    network.map_noise.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    EDMVelocity(network)(torch.randn(1, 1, 4, 4), t)
    assert seen[0].item() == pytest.approx(torch.tensor(99863.38).log().item() / 4, rel=1e-6)


@pytest.mark.parametrize("cls", [EDMDenoiser, EDMVelocity])
def test_config_rebuilds_the_model(cls):
    model = cls(build_network(MLP), sigma_data=0.4, use_fp16=True)
    rebuilt = cls.from_config(model.config)
    assert rebuilt.config == model.config
    assert (rebuilt.sigma_data, rebuilt.use_fp16, rebuilt.sample_shape) == (0.4, True, (1, 4, 4))
    rebuilt.load_state_dict(model.state_dict())


def test_fp16_networks_run_in_float32_off_cuda():
    x, _, t = pair()
    network = build_network(MLP)
    assert torch.equal(EDMVelocity(network, use_fp16=True)(x, t), EDMVelocity(network)(x, t))


def test_sampling_methods(denoiser):
    _, z, _ = pair()
    one_step = EDMVelocity(denoiser.model).sample(z)
    t = torch.tensor(1 - 1e-5)
    torch.testing.assert_close(one_step, z * t - t * EDMVelocity(denoiser.model)(z * t, t), atol=1e-4, rtol=1e-4)
    images = denoiser.sample(z, steps=4, class_labels=torch.zeros(5, dtype=torch.int64))
    assert images.shape == z.shape
    assert images.dtype == torch.float32


def test_unknown_network():
    with pytest.raises(ConfigError, match="SongUNet"):
        build_network({"type": "songunet"})
    with pytest.raises(ConfigError, match="img_resolution"):
        build_network({"type": "SongUNet"})


def test_every_parameter_gets_a_gradient_without_augmentation_labels():
    """A parameter without one would stop training on several processes."""
    sizes = {"img_resolution": 8, "in_channels": 1, "out_channels": 1, "model_channels": 8, "channel_mult": [1]}
    network = build_network({"type": "SongUNet", **sizes, "augment_dim": 9, "num_blocks": 1, "attn_resolutions": []})
    EDMDenoiser(network)(torch.randn(2, 1, 8, 8), torch.ones(2)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
