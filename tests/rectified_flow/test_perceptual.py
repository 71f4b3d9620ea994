"""Perceptual distances: LPIPS on VGG16 against torchvision's layers, its weight files, gradients, refusals."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from visionseq.errors import CheckpointError, ConfigError
from visionseq.metrics.features import FeatureCNN
from visionseq.rectified_flow.perceptual import PerceptualDistance, classifier_distance, lpips_vgg, perceptual_from
from visionseq.rectified_flow.vgg import IMAGENET_MEAN, IMAGENET_STD, TAPS, WIDTHS, VGG16Features

LINEAR_LAYOUTS = ("lin{}.model.1.weight", "lins.{}.model.1.weight", "lin{}.weight", "linear.{}")


@pytest.fixture(scope="module")
def vgg_state():
    torch.manual_seed(0)
    return VGG16Features().state_dict()


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, width, 1, 1, generator=generator) for width in WIDTHS]


def images(rows=2, size=16, channels=3):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(2, rows, channels, size, size, generator=generator)


def test_lpips_agrees_with_torchvision_layers(tmp_path, vgg_state, linear):
    models = pytest.importorskip("torchvision.models")
    torch.save(vgg_state, tmp_path / "vgg16.pth")
    torch.save({f"lin{k}.model.1.weight": w for k, w in enumerate(linear)}, tmp_path / "linear.pth")
    with torch.device("meta"):
        layers = models.vgg16().features
    layers = layers.to_empty(device="cpu")
    layers.load_state_dict({key.removeprefix("features."): value for key, value in vgg_state.items()})

    def maps(image):
        x = F.interpolate(image, (224, 224), mode="bilinear")
        x, found = (x - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1), []
        for index, layer in enumerate(layers[: TAPS[-1] + 1]):
            x = F.avg_pool2d(x, 2) if isinstance(layer, torch.nn.MaxPool2d) else layer(x)
            if index in TAPS:
                found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found

    a, b = images(rows=1)
    with torch.no_grad():
        expected = sum((w * (f - g) ** 2).sum(1).mean((1, 2)) for w, f, g in zip(linear, maps(a), maps(b), strict=True))
        found = perceptual_from(f"lpips:{tmp_path / 'vgg16.pth'},{tmp_path / 'linear.pth'}")(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layout", LINEAR_LAYOUTS)
def test_layouts_of_one_safetensors_file(tmp_path, vgg_state, linear, layout):
    names = {key: key.replace("features.", "net.slice1.") for key in vgg_state}
    state = {(names[key] if "lins" in layout else key): value for key, value in vgg_state.items()}
    state |= {layout.format(k): w for k, w in enumerate(linear)}
    save_file(state, tmp_path / "lpips.safetensors")
    distance = lpips_vgg(tmp_path / "lpips.safetensors")
    assert all(found.equal(w) for found, w in zip(distance.weights, linear, strict=True))
    assert distance.feature_maps.features[28].weight.equal(vgg_state["features.28.weight"])
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_list_of_linear_weights(tmp_path, vgg_state, linear):
    torch.save(vgg_state, tmp_path / "vgg16.pth")
    torch.save(linear, tmp_path / "linear.pt")
    assert lpips_vgg(tmp_path / "vgg16.pth", tmp_path / "linear.pt").weights[4].equal(linear[4])


def test_files_that_are_not_lpips_are_refused(tmp_path, vgg_state, linear):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such file"):
        perceptual_from("lpips:nowhere.pth")
    save_file(vgg_state, tmp_path / "vgg.safetensors")
    with pytest.raises(CheckpointError, match="linear weight of layer 0 is missing"):
        lpips_vgg(tmp_path / "vgg.safetensors")
    torch.save({f"lin{k}.weight": w for k, w in enumerate(linear)}, tmp_path / "linear.pth")
    with pytest.raises(CheckpointError, match=r"missing  *features\.0\.weight"):
        lpips_vgg(tmp_path / "linear.pth")
    torch.save({f"lin{k}.weight": w for k, w in enumerate(linear[::-1])}, tmp_path / "swapped.pth")
    with pytest.raises(CheckpointError, match=r"linear weight 0 is \[1, 512, 1, 1\], expected \[1, 64, 1, 1\]"):
        lpips_vgg(tmp_path / "vgg.safetensors", tmp_path / "swapped.pth")


def test_code_inside_a_weight_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    torch.save({"lin0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match=r"trap\.pth"):
        lpips_vgg(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_channels_that_are_all_zero_give_a_finite_gradient():
    distance = PerceptualDistance(lambda x: [F.relu(x - 2.0), F.relu(x - 0.5)])
    a, b = images()
    a.requires_grad_()
    value = distance(a, b)
    value.sum().backward()
    assert value.isfinite().all()
    assert a.grad.isfinite().all()
    assert a.grad.abs().max() > 0


def test_distance_is_a_distance():
    torch.manual_seed(0)
    distance = classifier_distance(FeatureCNN(img_resolution=8))
    a, b = images(rows=5, size=8, channels=1)
    assert distance(a, a).abs().max() == 0
    torch.testing.assert_close(distance(a, b), distance(b, a))
    assert (distance(a, b) > 0).all()
    assert distance.train().training is False


def test_classifier_sees_images_in_its_own_range():
    torch.manual_seed(0)
    network = FeatureCNN(img_resolution=8)
    a, b = images(size=8, channels=1)
    expected = PerceptualDistance(network.feature_maps)(2 * a - 1, 2 * b - 1)
    torch.testing.assert_close(classifier_distance(network)(a, b), expected)


def test_wrong_number_of_weights_is_named():
    a, b = images()
    with pytest.raises(ConfigError, match="1 layer weights for 2 feature maps"):
        PerceptualDistance(lambda x: [x, x], [torch.ones(1, 3, 1, 1)])(a, b)


def test_a_model_without_feature_maps_is_refused(tmp_path):
    from visionseq.rectified_flow.model import EDMVelocity, build_network

    EDMVelocity(build_network({"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1})).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a EDMVelocity, expected a FeatureCNN"):
        perceptual_from(str(tmp_path))
