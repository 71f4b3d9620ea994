"""`visionseq score`: the same figures from images, folders and saved statistics, always with the network's name."""

import json

import numpy as np
import pytest
import torch

from visionseq.cli import main
from visionseq.cli.binding import bind
from visionseq.cli.score import score
from visionseq.data import Digits
from visionseq.errors import CheckpointError, ConfigError, DataError
from visionseq.metrics import FeatureCNN, feature_statistics, frechet_distance
from visionseq.viz import save_png, to_pil, to_uint8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a feature network, an npz of noisy digits, and a folder of pictures of them."""
    folder = tmp_path_factory.mktemp("score")
    torch.manual_seed(0)
    FeatureCNN().save_pretrained(folder / "features")
    digits = Digits().batch(np.arange(120)).image
    noisy = to_uint8(digits + 0.3 * torch.randn(digits.shape))
    np.savez(folder / "samples.npz", noisy.permute(0, 2, 3, 1).numpy())
    for number, picture in enumerate(to_pil(noisy)):
        save_png(picture, folder / "images" / f"{number:03d}.png")
    return folder


def run(place, capsys, reference: str, *options: str) -> dict:
    arguments = ["--reference", reference, "--features", str(place / "features"), "--subset-size", "60", *options]
    score(**bind(score, "visionseq score", [str(place / "samples.npz"), *arguments]))
    return json.loads(capsys.readouterr().out)


def test_against_digits(place, capsys):
    result = run(place, capsys, "digits", "--batch-size", "100")
    network = FeatureCNN.from_pretrained(place / "features")
    samples = torch.from_numpy(np.load(place / "samples.npz")["arr_0"]).permute(0, 3, 1, 2)
    real = to_uint8(Digits().batch(np.arange(1797)).image)
    with torch.no_grad():
        expected = [feature_statistics(network.features(images)) for images in (samples, real)]
    assert result["frechet_distance"] == pytest.approx(frechet_distance(*expected[0], *expected[1]), rel=1e-4)
    assert result["features"] == str(place / "features")
    assert (result["num_samples"], result["num_reference"]) == (120, 1797)
    assert result["kernel_distance"]["subset_size"] == 60
    assert {"precision", "recall", "samples", "reference"} <= result.keys()


def test_saved_statistics_give_the_same_distance(place, capsys):
    statistics, report = place / "digits.npz", place / "report.json"
    images = run(place, capsys, "digits", "--save-statistics", str(statistics), "--out", str(report))
    assert json.loads(report.read_text()) == images
    saved = run(place, capsys, str(statistics))
    assert saved["frechet_distance"] == pytest.approx(images["frechet_distance"], rel=1e-12)
    assert "precision" not in saved


def test_images_against_themselves(place, capsys):
    for reference in (place / "samples.npz", place / "images"):
        result = run(place, capsys, str(reference))
        assert result["frechet_distance"] == pytest.approx(0, abs=1e-9)
        assert (result["precision"], result["recall"]) == (1.0, 1.0)


def test_a_folder_of_samples_scores_as_its_npz(place, capsys):
    from_npz = run(place, capsys, "digits")
    words = ["--reference", "digits", "--features", str(place / "features"), "--subset-size", "60"]
    assert main(["score", str(place / "images"), *words]) == 0
    out, error = capsys.readouterr()
    from_folder = json.loads(out)
    assert from_folder.pop("samples") == str(place / "images")
    assert from_folder == {name: value for name, value in from_npz.items() if name != "samples"}
    assert "comparing 120 with 1797 images" in error


def test_colour_images_are_scored_at_the_size_of_the_first(tmp_path, capsys):
    torch.manual_seed(0)
    FeatureCNN(in_channels=3, img_resolution=12).save_pretrained(tmp_path / "features")
    generator = torch.Generator().manual_seed(0)
    for number in range(20):
        shape = (1, 3, 12, 12 + number)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        save_png(to_pil(pixels)[0], tmp_path / "images" / f"{number:02d}.png")
    words = ["score", str(tmp_path / "images"), "--reference", str(tmp_path / "images"), "--subset-size", "9"]
    assert main([*words, "--features", str(tmp_path / "features")]) == 0
    assert json.loads(capsys.readouterr().out)["frechet_distance"] == pytest.approx(0, abs=1e-9)
    assert main([*words, "--features", str(tmp_path / "features"), "--size", "8"]) == 1
    assert "[B, 3, 12, 12]" in capsys.readouterr().err


def test_what_does_not_fit_is_named(place, tmp_path):
    def compare(samples=place / "samples.npz", reference="digits", features=str(place / "features"), **options):
        score(samples, reference=reference, features=features, **options)

    with pytest.raises(DataError, match="no such file"):
        compare(samples=tmp_path / "absent.npz")
    with pytest.raises(DataError, match="none of the built-in sets"):
        compare(reference="no-such-place")
    with pytest.raises(CheckpointError, match="does not download"):
        compare(features=f"inception:{tmp_path / 'absent.pth'}")
    np.savez(tmp_path / "floats.npz", np.zeros((2, 8, 8, 1), np.float32))
    with pytest.raises(DataError, match="float32"):
        compare(samples=tmp_path / "floats.npz")
    np.savez(tmp_path / "none.npz", np.zeros((0, 8, 8, 1), np.uint8))
    with pytest.raises(DataError, match="no images"):
        compare(samples=tmp_path / "none.npz")
    np.savez(tmp_path / "large.npz", np.zeros((2, 9, 9, 1), np.uint8))
    with pytest.raises(ConfigError, match=r"\[B, 1, 8, 8\]"):
        compare(samples=tmp_path / "large.npz")
    np.savez(tmp_path / "narrow.npz", mu=np.zeros(5), sigma=np.eye(5))
    with pytest.raises(DataError, match="different networks"):
        compare(reference=str(tmp_path / "narrow.npz"))


def test_a_model_without_features_is_refused(place, tmp_path):
    from visionseq.rectified_flow.model import EDMVelocity, build_network

    network = build_network({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 8})
    EDMVelocity(network).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="EDMVelocity has no feature layer"):
        score(place / "samples.npz", reference="digits", features=str(tmp_path))
