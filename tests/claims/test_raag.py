"""RAAG's claim: the exact model, a short run, the verdicts and the page."""

import json
from dataclasses import replace

import pytest
import torch

from visionseq.claims.raag.experiment import Recipe, digit_mixture, run, run_seed
from visionseq.claims.raag.mixture import GaussianMixture
from visionseq.claims.raag.report import average, best, verdicts, write_report
from visionseq.flow.guidance import ClassifierFree

SHORT = replace(Recipe(), num_samples=100, steps=(10, 30))


def mixture_in_one_dimension() -> GaussianMixture:
    means, variances = torch.tensor([[-2.0], [3.0]]).double(), torch.tensor([[[0.5]], [[2.0]]]).double()
    return GaussianMixture(means, variances, torch.tensor([0.3, 0.7]).double())


@pytest.mark.parametrize("t", [0.2, 0.7, 1.0])
def test_velocities_are_conditional_expectations(t):
    """Against samples of (data, noise), of those that pass near x at time t."""
    mixture, count = mixture_in_one_dimension(), 4_000_000
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(count, generator=generator) < 0.7).long()
    data = mixture.means_KD[label, 0] + mixture.variances_KD[label, 0].sqrt() * torch.randn(count, generator=generator)
    noise = torch.randn(count, generator=generator).double()
    x_t = (1 - t) * data + t * noise
    near = (x_t - 0.5).abs() < 0.02
    expected = (noise - data)[near].mean()
    actual = mixture.velocity(torch.tensor([[0.5]]).double(), t)[0, 0]
    assert abs(actual - expected) < 5 * (noise - data)[near].std() / near.sum().sqrt() + 0.02


def test_a_certain_prior_is_the_velocity_of_the_class():
    mixture, x = mixture_in_one_dimension(), torch.linspace(-3, 3, 7).double()[:, None]
    certain = torch.tensor([0.0, 1.0]).double()
    label = torch.ones(7, dtype=torch.long)
    torch.testing.assert_close(mixture.velocity(x, 0.4, certain), mixture.class_velocity(x, 0.4, label))


def test_many_small_steps_of_a_perfect_model_reach_the_classes():
    recipe = Recipe()
    mixture, _ = digit_mixture(recipe)
    labels = torch.arange(100) % 10
    noise = torch.randn(100, 64, generator=torch.Generator().manual_seed(0)).double()
    perfect = run(mixture, noise, labels, 20, None, belief=1.0)
    imperfect = run(mixture, noise, labels, 20, None, belief=0.6)
    helped = run(mixture, noise, labels, 20, ClassifierFree(3.0), belief=0.6)
    assert perfect["accuracy"] == 1.0
    assert imperfect["accuracy"] < 0.9 < helped["accuracy"]


def test_page_and_verdicts_of_a_short_run(tmp_path):
    seeds = {seed: run_seed(SHORT, seed, lambda text: None) for seed in (0, 1)}
    means = average(seeds)
    page = write_report(tmp_path, seeds, 5.73, {"belief": 0.6, "num_samples": 100}, {"processor": "some"}).read_text()
    assert "the ratio is below 0.02 at the end: **holds**" in page
    assert json.loads((tmp_path / "raag.json").read_text())["mean"]["10"]["CFG 7"]["norm"] > 6
    assert (tmp_path / "raag_ratio.png").is_file()

    means[10]["RAAG (18, 12)"]["ratio"] = [0.3, 0.2, 5.0]
    changed = verdicts(means, 5.73)
    assert not changed["the ratio is largest in the first step"]
    assert not changed["the ratio is below 0.02 at the end"]


def test_the_best_rule_is_accurate():
    scores = {
        name: {"accuracy": a, "distance": d} for name, a, d in (("a", 0.5, 1.0), ("b", 0.99, 2.0), ("c", 1.0, 3.0))
    }
    assert best(scores, ["a", "b", "c"]) == "b"
    assert best(scores, ["a"]) == "a"
