"""The scores as torchmetrics: equal to their formulas, whatever the batches and the number of processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from visionseq.errors import ConfigError, DataError
from visionseq.metrics.comparison import compare_features
from visionseq.metrics.extractor import FeatureExtractor, precomputed
from visionseq.metrics.features import FeatureCNN
from visionseq.metrics.frechet import feature_statistics, frechet_distance
from visionseq.metrics.image_scores import FrechetDistance, KernelDistance, PrecisionRecall
from visionseq.metrics.reference import save_statistics

IDENTITY = precomputed(6, "identity")


def cloud(seed: int, rows: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)) + shift


def filled(metric, real: torch.Tensor, generated: torch.Tensor, pieces: int = 1):
    for part in real.chunk(pieces):
        metric.update(part, real=True)
    for part in generated.chunk(pieces):
        metric.update(part, real=False)
    return metric


@pytest.mark.parametrize("pieces", [1, 4])
def test_frechet_distance_is_that_of_the_statistics(pieces):
    real, generated = cloud(0, 50), cloud(1, 40, shift=0.5)
    expected = frechet_distance(*feature_statistics(generated), *feature_statistics(real))
    metric = filled(FrechetDistance(IDENTITY), real, generated, pieces)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-10)
    metric.reset()
    assert filled(metric, real, real).compute().item() == pytest.approx(0, abs=1e-10)


def test_merged_states_equal_one_metric():
    real, generated = cloud(0, 50), cloud(1, 40, shift=0.5)
    whole = filled(FrechetDistance(IDENTITY), real, generated)
    first = filled(FrechetDistance(IDENTITY), real[:20], generated[:30])
    first.merge_state(filled(FrechetDistance(IDENTITY), real[20:], generated[30:]))
    assert first.compute().item() == pytest.approx(whole.compute().item(), rel=1e-10)


def test_two_processes_equal_one(tmp_path):
    script = Path(__file__).with_name("metric_process.py")
    command = [sys.executable, str(script)]
    processes = [
        subprocess.Popen([*command, str(rank), "2", f"file://{tmp_path}/meeting"], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    real, generated = cloud(0, 31), cloud(1, 40, shift=0.5)
    manifold = {name: x.item() for name, x in filled(PrecisionRecall(IDENTITY), real, generated).compute().items()}
    assert found[0] == found[1]
    assert found[0]["frechet"] == pytest.approx(filled(FrechetDistance(IDENTITY), real, generated).compute().item())
    assert {name: found[0][name] for name in manifold} == manifold
    # The subsets are drawn from rows in the order in which the processes hold them.
    in_order = [torch.cat([rows[0::2], rows[1::2]]) for rows in (real, generated)]
    kernel = filled(KernelDistance(IDENTITY, 2, 20), *in_order).compute()[0].item()
    assert found[0]["kernel"] == pytest.approx(kernel, rel=1e-5)


def test_reference_statistics_replace_real_images(tmp_path):
    real, generated = cloud(0, 50), cloud(1, 40)
    save_statistics(tmp_path / "reference.npz", *feature_statistics(real))
    metric = FrechetDistance(IDENTITY, reference=tmp_path / "reference.npz")
    metric.update(generated, real=False)
    assert metric.compute().item() == pytest.approx(filled(FrechetDistance(IDENTITY), real, generated).compute().item())
    with pytest.raises(DataError, match="expected one of the two"):
        metric.update(real, real=True)
    with pytest.raises(DataError, match="different networks"):
        FrechetDistance(precomputed(5, "other"), reference=tmp_path / "reference.npz")


def test_kernel_distance_over_the_whole_set_is_the_mmd():
    real, generated = cloud(0, 50), cloud(1, 50, shift=0.5)
    mean, std = filled(KernelDistance(IDENTITY, subsets=3, subset_size=50), real, generated).compute()
    assert mean.item() == pytest.approx(poly_mmd(real, generated).item(), rel=1e-4)
    assert std.item() < 1e-4 * mean.item()


def test_kernel_distance_draws_from_its_seed_alone():
    real, generated = cloud(0, 50), cloud(1, 30, shift=0.5)

    def compute(seed: int) -> float:
        return filled(KernelDistance(IDENTITY, 5, 10, seed), real, generated).compute()[0].item()

    torch.manual_seed(0)
    expected_state = torch.get_rng_state()
    first = compute(0)
    assert torch.equal(torch.get_rng_state(), expected_state)
    torch.manual_seed(1)
    assert compute(0) == first != compute(1)


def test_subsets_are_no_larger_than_the_sets():
    metric = filled(KernelDistance(IDENTITY, subsets=2), cloud(0, 50), cloud(1, 7))
    metric.compute()
    assert metric.subset_size == 7
    metric.update(cloud(2, 13), real=False)
    metric.compute()
    assert metric.subset_size == 20


def brute_force(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    def distances(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=-1)

    radius = np.sort(distances(centres, centres), axis=1)[:, k]
    return (distances(points, centres) <= radius).any(1).mean()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_precision_and_recall_against_brute_force(k, shift):
    real, generated = cloud(0, 300), cloud(1, 270, shift)
    found = filled(PrecisionRecall(IDENTITY, k), real, generated, pieces=3).compute()
    a, b = generated.double().numpy(), real.double().numpy()
    assert found["precision"].item() == pytest.approx(brute_force(a, b, k))
    assert found["recall"].item() == pytest.approx(brute_force(b, a, k))


def test_precision_and_recall_tell_missing_modes_from_bad_samples():
    near, far = cloud(0, 60), cloud(1, 60, shift=100.0)
    both = torch.cat([near, far])
    one_mode = filled(PrecisionRecall(IDENTITY), both, near).compute()
    assert (one_mode["precision"].item(), one_mode["recall"].item()) == (1.0, 0.5)
    same = filled(PrecisionRecall(IDENTITY), both, both).compute()
    assert (same["precision"].item(), same["recall"].item()) == (1.0, 1.0)


def test_too_few_samples_are_named():
    with pytest.raises(DataError, match="more than k = 3"):
        filled(PrecisionRecall(IDENTITY), cloud(0, 3), cloud(1, 9)).compute()
    with pytest.raises(DataError, match="at least two"):
        filled(KernelDistance(IDENTITY), cloud(0, 1), cloud(1, 9)).compute()
    with pytest.raises(DataError, match="at least two"):
        filled(FrechetDistance(IDENTITY), cloud(0, 1), cloud(1, 9)).compute()


def test_networks_are_taken_as_they_are_and_named():
    network = FeatureCNN().train()
    metric = FrechetDistance(network)
    assert metric.features_name == "FeatureCNN"
    metric.train()
    assert not network.training, "a score must not depend on the mode of the module around it"
    images = torch.rand(9, 1, 8, 8) * 2 - 1
    metric.update(images, real=True)
    expected = feature_statistics(network.features(images).detach())
    np.testing.assert_allclose(metric.real[1].numpy(), expected[0])
    assert FrechetDistance(FeatureExtractor(network, name="features-digits")).features_name == "features-digits"


def test_plain_callables_say_how_wide_they_are():
    with pytest.raises(ConfigError, match="num_features"):
        FeatureExtractor(lambda images: images.flatten(1))
    with pytest.raises(ConfigError, match=r"\(2, 8\), expected \[B, 4\]"):
        FeatureExtractor(lambda images: images.flatten(1), 4)(torch.zeros(2, 2, 2, 2))


def test_comparison_reports_every_score_with_its_network():
    real, generated = cloud(0, 60), cloud(1, 50, shift=0.3)
    result = compare_features("features-test", generated, real, subsets=4, subset_size=20)
    assert result["features"] == "features-test"
    assert (result["num_samples"], result["num_reference"]) == (50, 60)
    assert result["frechet_distance"] == pytest.approx(
        filled(FrechetDistance(IDENTITY), real, generated).compute().item(), rel=1e-10
    )
    assert result["kernel_distance"]["subset_size"] == 20
    assert 0 < result["precision"] <= 1
    assert 0 < result["recall"] <= 1
