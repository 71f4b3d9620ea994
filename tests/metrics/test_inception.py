"""Inception-v3 for the FID: equal to torch-fidelity's network, and loaded from nothing but a fitting local file."""

import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from visionseq.errors import CheckpointError, ConfigError
from visionseq.metrics.extractor import FeatureExtractor
from visionseq.metrics.inception import InceptionFeatures, InceptionV3, resize_tensorflow_1


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights that keep the scale of the activations."""
    torch.manual_seed(0)
    network = InceptionV3()
    for name, value in network.state_dict().items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
        elif name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("bn.bias", "running_mean")):
            value.normal_(0, 0.2)
    return network.state_dict()


@pytest.fixture(scope="module")
def weights_file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, path)
    return path


@pytest.fixture(scope="module")
def network(weights_file) -> InceptionFeatures:
    return InceptionFeatures(weights_file)


def test_equals_torch_fidelity(network, weights_file):
    reference = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights_file))
    for size in ((32, 32), (64, 48), (310, 299)):
        images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        (expected,) = reference(images)
        assert expected.std() > 1e-2
        torch.testing.assert_close(network.features(images), expected, rtol=1e-5, atol=1e-6)


def test_grey_and_float_images(network):
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    expected = network.features(grey.repeat(1, 3, 1, 1))
    assert expected.shape == (2, network.num_features)
    torch.testing.assert_close(network.features(grey), expected)
    torch.testing.assert_close(network.features(grey.float() / 127.5 - 1), expected)
    with pytest.raises(ConfigError, match="1 or 3"):
        network.features(torch.zeros(2, 4, 8, 8))


def test_stays_in_eval_mode_and_says_its_name(network):
    extractor = FeatureExtractor.of(network)
    extractor.train()
    network.train()
    assert not any(module.training for module in extractor.modules())
    assert extractor.name == "inception-v3-2015-12-05"
    assert not any(p.requires_grad for p in network.parameters())


def test_safetensors_are_read_as_well(state, network, tmp_path):
    save_file(state, tmp_path / "weights.safetensors")
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    loaded = InceptionFeatures(tmp_path / "weights.safetensors")
    torch.testing.assert_close(loaded.features(images), network.features(images), rtol=0, atol=0)


def test_a_missing_file_is_never_downloaded(tmp_path):
    with pytest.raises(CheckpointError, match=r"does not download.*pt_inception-2015-12-05"):
        InceptionFeatures(tmp_path / "pt_inception.pth")


def test_other_inceptions_are_refused(state, tmp_path):
    torch.save(state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, tmp_path / "imagenet.pth")
    with pytest.raises(CheckpointError, match=r"fc\.weight"):
        InceptionFeatures(tmp_path / "imagenet.pth")
    torch.save(state | {"AuxLogits.fc.bias": torch.zeros(1000)}, tmp_path / "auxiliary.pth")
    with pytest.raises(CheckpointError, match="AuxLogits"):
        InceptionFeatures(tmp_path / "auxiliary.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="table of tensors"):
        InceptionFeatures(tmp_path / "list.pth")


def test_pickled_modules_are_not_executed(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="not loaded"):
        InceptionFeatures(tmp_path / "module.pth")


def test_resize_starts_at_the_corner():
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    rows = resize_tensorflow_1(ramp, 8)[0, 0]
    assert rows[0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert torch.equal(rows, rows[:1].expand(8, 8))
