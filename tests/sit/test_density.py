"""The density of data against normal laws, with a field whose derivative mixes the values."""

import math

import pytest
import torch
from gaussian import MEAN, SPREAD, ExactModel, unit_noise

from visionseq.errors import ConfigError
from visionseq.flow.paths import Linear
from visionseq.sit import SiT, likelihood


def log_normal(x: torch.Tensor, mean: float, spread: float) -> torch.Tensor:
    law = torch.distributions.Normal(torch.tensor(mean, dtype=x.dtype), spread)
    return law.log_prob(x).flatten(1).sum(1)


@pytest.mark.parametrize("solver", ["dopri5", "heun", "midpoint"])
@pytest.mark.parametrize("prediction", ["velocity", "noise"])
def test_the_density_of_gaussian_data(prediction, solver):
    data = MEAN + SPREAD * unit_noise()
    result = likelihood(ExactModel("Linear", prediction), data, steps=150, solver=solver, rtol=1e-5)
    torch.testing.assert_close(result.log_density, log_normal(data, MEAN, SPREAD), atol=0.03, rtol=0)
    torch.testing.assert_close(result.noise, (data - MEAN) / SPREAD, atol=0.02, rtol=0)
    expected = -log_normal(data, MEAN, SPREAD) / (4 * math.log(2))
    torch.testing.assert_close(result.bits_per_dimension, expected, atol=0.02, rtol=0)


class Turning:
    """dx/dt = A x with a matrix that mixes the four values: log p(x) = log N(exp(-A) x) - trace(A)."""

    path, prediction = Linear(), "velocity"
    matrix = torch.tensor([[0.5, 2.0, 0.0, -1.0], [0.0, -0.3, 1.0, 0.0], [1.0, 0.0, 0.2, 0.4], [0.0, 0.6, 0.0, 0.1]])

    def __call__(self, x, t, labels):
        return (x.flatten(1) @ self.matrix.to(x.dtype).T).view_as(x)

    def no_class(self, labels):
        return None


def test_the_estimate_of_the_divergence_is_right_on_average():
    model, data = Turning(), unit_noise(1).expand(2000, -1, -1, -1)
    result = likelihood(model, data, solver="heun", steps=30, generator=torch.Generator().manual_seed(0))
    start = data[:1].flatten(1) @ torch.linalg.matrix_exp(-model.matrix.double()).T
    expected = log_normal(start, 0.0, 1.0) - model.matrix.trace()
    assert result.log_density.mean().item() == pytest.approx(expected.item(), abs=0.1)
    assert result.log_density.std() > 0.5  # the error of one vector


def test_a_network_is_differentiated_by_its_input_alone():
    model = SiT(4, 2, 1, 8, 1, 2, num_classes=3, learn_sigma=False).eval()
    with torch.no_grad():
        result = likelihood(model, torch.randn(2, 1, 4, 4), torch.tensor([0, 2]), steps=2, solver="euler")
    assert result.log_density.shape == (2,)
    assert not result.log_density.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    # A new network predicts a velocity of zero, so the data are their own noise.
    torch.testing.assert_close(result.log_density, log_normal(result.noise, 0.0, 1.0))
    assert result.nfe == 2


def test_stochastic_solvers_give_no_density():
    with pytest.raises(ConfigError, match="'euler-maruyama', expected dopri5, euler"):
        likelihood(ExactModel("Linear", "velocity"), unit_noise(), solver="euler-maruyama")
