"""Losses and their weights against the definitions, written out."""

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.sit.losses import prediction_loss, training_times
from visionseq.sit.transport import path_of

NAMES = ["Linear", "GVP", "VP"]


def ends(n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(n, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return data, noise, torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_the_true_predictions_have_no_loss(name):
    data, noise, t = ends()
    path = path_of(name)
    true = {"velocity": path.velocity(data, noise, t), "noise": noise}
    true["score"] = -noise / path.coefficients(t, data).sigma
    for prediction, output in true.items():
        assert prediction_loss(output, data, noise, t, path, prediction).max() < 1e-20
        off = prediction_loss(output + 0.1, data, noise, t, path, prediction)
        scale = path.coefficients(t, t).sigma ** 2 if prediction == "score" else 1
        torch.testing.assert_close(off, 0.01 * scale * torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["noise", "score"])
@pytest.mark.parametrize("name", NAMES)
def test_the_velocity_weight_measures_the_velocity(name, prediction):
    data, noise, t = ends()
    path = path_of(name)
    x_t = path.at(data, noise, t)
    output = path.convert(x_t, noise, t, "noise", prediction) + 0.1 * torch.cos(x_t)
    as_velocity = path.convert(x_t, output, t, prediction, "velocity")
    expected = prediction_loss(as_velocity, data, noise, t, path, "velocity")
    torch.testing.assert_close(prediction_loss(output, data, noise, t, path, prediction, "velocity"), expected)
    likely = prediction_loss(output, data, noise, t, path, prediction, "likelihood")
    torch.testing.assert_close(likely, expected / path.drift_variance(t, t))
    with pytest.raises(ConfigError, match="'uniform', expected one of none"):
        prediction_loss(output, data, noise, t, path, prediction, "uniform")


def test_losses_stay_in_float32_under_autocast():
    data, noise, t = (tensor.float() for tensor in ends())
    path = path_of("VP")
    expected = prediction_loss(noise + 0.1, data, noise, t, path, "noise", "velocity")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prediction_loss((noise + 0.1).bfloat16().float(), data, noise, t, path, "noise", "velocity")
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, expected, rtol=0.1, atol=0)


def test_times_lie_in_the_interval_of_the_training():
    u = torch.tensor([0.0, 0.5, 1.0])
    assert training_times(u, path_of("Linear"), "velocity").tolist() == [0, 0.5, 1]
    torch.testing.assert_close(training_times(u, path_of("GVP"), "score"), torch.tensor([1e-3, 0.5, 1 - 1e-3]))
    assert training_times(u, path_of("VP"), "velocity")[2] < 1
