"""The patch transformer as a network of the room: output, conditions, recomputation, a training that learns."""

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.nn.checkpointing import checkpoint_activations
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network

SMALL = {
    "type": "PatchTransformer",
    "img_resolution": 8,
    "in_channels": 2,
    "patch_size": 2,
    "width": 16,
    "depth": 2,
    "num_heads": 2,
    "num_frequencies": 4,
    "label_dim": 3,
}


def randomized(**options) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_network({**SMALL, **options})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_a_new_network_predicts_zero():
    network = build_network(SMALL)
    x, noise = torch.randn(3, 2, 8, 8), torch.randn(3)
    assert not network(x, noise, torch.eye(3)).any()
    network(x, noise, torch.eye(3)).sum().backward()
    assert network.output.linear.weight.grad.any()


def test_place_noise_level_and_class_matter():
    network, x = randomized(), torch.randn(1, 2, 8, 8)
    noise, label = torch.tensor([0.3]), torch.eye(3)[:1]
    y = network(x, noise, label)
    assert y.shape == x.shape
    assert not torch.allclose(network(x, noise + 1, label), y)
    assert not torch.allclose(network(x, noise, torch.eye(3)[1:2]), y)
    torch.testing.assert_close(network(x, noise, torch.zeros(1, 3)), network(x, noise, None))
    moved = network(x.roll(2, 3), noise, label)  # by one patch: without positions the answer would move as well
    assert not torch.allclose(moved, y.roll(2, 3), atol=1e-3)


def test_rows_of_a_batch_do_not_see_each_other():
    network, x, noise = randomized(), torch.randn(4, 2, 8, 8), torch.randn(4)
    labels = torch.eye(3)[[0, 1, 2, 0]]
    alone = torch.cat([network(x[i : i + 1], noise[i : i + 1], labels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(network(x, noise, labels), alone)
    torch.testing.assert_close(network(x, noise[:1], labels[:1])[0], alone[0])


def test_recomputed_blocks_have_the_same_gradients():
    network, x, noise = randomized(), torch.randn(2, 2, 8, 8), torch.randn(2)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            assert checkpoint_activations(network) > 1
        network.zero_grad()
        network(x, noise, torch.eye(3)[:2]).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 3}, "patch_size 3 does not divide the resolution 8"),
        ({"patch_size": 0}, "patch_size 0"),
        ({"num_heads": 3}, "16 channels do not divide into 3 heads"),
        ({"width": 18, "num_heads": 1}, "18 channels, expected a multiple of 4"),
        ({"widths": 3}, "widths"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_network({**SMALL, **options})


def test_saved_and_loaded(tmp_path):
    network = randomized()
    EDMVelocity(network).save_pretrained(tmp_path)
    loaded = EDMVelocity.from_pretrained(tmp_path)
    noise, labels = torch.randn(2, 2, 8, 8), torch.tensor([0, 2])
    torch.testing.assert_close(loaded.sample(noise, 2, labels), EDMVelocity(network).sample(noise, 2, labels))


def test_under_autocast_it_stays_close_and_float32_outside():
    model, y = EDMDenoiser(randomized()), torch.randn(2, 2, 8, 8)
    expected = model(y, torch.tensor(0.5), torch.tensor([0, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(y, torch.tensor(0.5), torch.tensor([0, 1]))
    assert half.dtype == torch.float32
    assert (half - expected).norm() < 0.05 * expected.norm()


def test_it_learns_a_constant_image():
    torch.manual_seed(0)
    network = build_network(SMALL)
    x, noise = torch.randn(16, 2, 8, 8), torch.randn(16)
    target = torch.randn(2, 8, 8)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        loss = (network(x, noise) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
