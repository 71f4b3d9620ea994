"""Samplers on Gaussian data, whose ODE and marginals are known; what is counted, and what is refused."""

import pytest
import torch
from gaussian import MEAN, SPREAD, ExactModel, unit_noise

from visionseq.errors import ConfigError
from visionseq.flow.guidance import ClassifierFree
from visionseq.sit import SiT, sample
from visionseq.sit.transport import ode_interval, path_of, sde_interval, training_interval

KINDS = [(path, prediction) for path in ("Linear", "GVP", "VP") for prediction in ("velocity", "score", "noise")]
FORMS = ["constant", "SBDM", "sigma", "linear", "decreasing", "increasing-decreasing"]
TINY = {"input_size": 4, "in_channels": 2, "hidden_size": 8, "depth": 1, "num_heads": 2, "num_classes": 3}


def tiny(**options) -> SiT:
    """A small model whose output is not zero."""
    torch.manual_seed(0)
    model = SiT(**{**TINY, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize(("path", "prediction"), KINDS)
@pytest.mark.parametrize("solver", ["heun", "midpoint", "dopri5"])
def test_the_ode_maps_noise_to_data(path, prediction, solver):
    model, z = ExactModel(path, prediction), unit_noise()
    trajectory = sample(model, z, 100, solver, rtol=1e-5)
    # Monotone and between normal laws, so the map is affine; a path that begins near its noise bends it a little.
    torch.testing.assert_close(trajectory.x, MEAN + SPREAD * z, atol=2e-2, rtol=0)
    assert trajectory.nfe == len(model.times)
    start, end = ode_interval(model.path, prediction)
    assert start - 1e-6 <= min(model.times)
    assert max(model.times) <= end + 1e-6


@pytest.mark.parametrize("last_step", ["mean", "euler", "tweedie", None])
@pytest.mark.parametrize("form", FORMS)
def test_every_sde_ends_at_the_data(form, last_step):
    model, z = ExactModel("Linear", "velocity"), unit_noise(2000)
    generator = torch.Generator().manual_seed(1)
    options = {"diffusion_form": form, "diffusion_norm": 0.2, "generator": generator}
    steps = 500 if form == "SBDM" else 60  # its coefficient is 200 at the start
    end = sample(model, z, steps, "euler-maruyama", last_step=last_step, record=False, **options).x
    assert end.mean().item() == pytest.approx(MEAN, abs=0.03)
    # A last step without noise lacks a part of the spread: 2 w 0.04 of the variance, or what the state leaves open.
    assert end.std().item() == pytest.approx(SPREAD, abs=0.05)


@pytest.mark.parametrize(("path", "prediction"), KINDS)
@pytest.mark.parametrize("solver", ["euler-maruyama", "stochastic-heun"])
def test_an_sde_of_every_model(path, prediction, solver):
    model, z = ExactModel(path, prediction), unit_noise(2000)
    end = sample(model, z, 60, solver, generator=torch.Generator().manual_seed(2)).x
    assert end.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert end.std().item() == pytest.approx(SPREAD, abs=0.05)


@pytest.mark.parametrize(
    ("solver", "last_step", "evaluations"),
    [
        *[("euler", "mean", 8), ("heun", "mean", 16), ("midpoint", "mean", 16)],
        *[("euler-maruyama", "mean", 8), ("euler-maruyama", None, 8), ("stochastic-heun", "tweedie", 15)],
    ],
)
def test_one_evaluation_a_drift(solver, last_step, evaluations):
    model = ExactModel("Linear", "velocity")
    trajectory = sample(model, unit_noise(), 8, solver, last_step=last_step)
    assert trajectory.nfe == len(model.times) == evaluations
    assert trajectory.states.shape == (9, 6, 1, 2, 2)
    assert trajectory.t[-1] == 1


def test_a_row_does_not_depend_on_its_batch():
    model, z, labels = tiny(), torch.randn(3, 2, 4, 4), torch.tensor([0, 1, 2])

    def drawn(rows: slice) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in range(3)][rows]
        return model.sample(z[rows], 6, labels[rows], "euler-maruyama", 2.0, generator=generators)

    torch.testing.assert_close(drawn(slice(1, 2)), drawn(slice(0, 3))[1:2])


def test_guidance_by_scale_by_rule_and_in_three_channels():
    model, z, labels = tiny(in_channels=4), torch.randn(2, 4, 4, 4), torch.tensor([0, 2])
    plain, scaled = (model.sample(z, 3, labels, "euler", scale) for scale in (1.0, 3.0))
    assert not torch.allclose(plain, scaled)
    three, every = (ClassifierFree(scale=3.0, channels=channels) for channels in (3, None))
    assert scaled.equal(model.sample(z, 3, labels, "euler", guidance=three))
    whole = model.sample(z, 3, labels, "euler", 3.0, guidance_channels=0)
    assert whole.equal(model.sample(z, 3, labels, "euler", guidance=every))
    # One step: the fourth channel is the conditional one.
    one = [model.sample(z, 1, labels, "euler", scale) for scale in (1.0, 3.0)]
    torch.testing.assert_close(one[0][:, 3], one[1][:, 3])
    assert sample(model, z, 3, "euler", labels, three).nfe == 6


def test_the_doubled_batch_of_the_official_method():
    model, labels = tiny(in_channels=4), torch.tensor([0, 2, 3, 3])
    x, t = torch.randn(4, 4, 4, 4), torch.full((4,), 0.3)
    conditional, null = model(torch.cat([x[:2], x[:2]]), t, labels).chunk(2)
    guided = null + 2.5 * (conditional - null)
    output = model.forward_with_cfg(x, t, labels, 2.5)
    torch.testing.assert_close(output[:, :3], torch.cat([guided, guided])[:, :3])
    torch.testing.assert_close(output[:, 3:], torch.cat([conditional, null])[:, 3:])


def test_callbacks_and_states_of_dopri5():
    times = []
    trajectory = sample(
        ExactModel("Linear", "velocity"), unit_noise(), 4, "dopri5", callback=lambda number, t, x: times.append(t)
    )
    assert times == trajectory.t.tolist()[1:] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "stochastic-heun", "last_step": None}, "score at t = 1"),
        ({"solver": "rk4"}, "'rk4', expected one of euler, heun, midpoint, dopri5, euler-maruyama"),
        ({"solver": "euler-maruyama", "last_step": "median"}, "'median', expected one of mean"),
        ({"solver": "euler-maruyama", "last_step_size": 0.0}, "last_step_size 0.0"),
        ({"solver": "euler-maruyama", "diffusion_form": "SBDM", "last_step_size": 0.9995}, "before the first step"),
        ({"solver": "euler-maruyama", "diffusion_form": "sigmoid"}, "'sigmoid', expected one of constant"),
        ({"solver": "euler-maruyama", "diffusion_norm": -1.0}, "diffusion_norm -1.0"),
        ({"solver": "euler-maruyama", "steps": 1}, "steps: 1 of an SDE"),
        ({"steps": 0}, "steps: 0"),
        ({"guidance": ClassifierFree(scale=2.0)}, "needs class labels"),
        ({"guidance": ClassifierFree(scale=2.0), "class_labels": torch.zeros(6)}, "no label for no class"),
    ],
)
def test_what_is_not_possible_is_a_sentence(options, message):
    with pytest.raises(ConfigError, match=message):
        sample(ExactModel("Linear", "velocity"), unit_noise(), **options)


def test_heun_without_a_last_step_where_the_score_exists():
    for path, prediction in (("VP", "velocity"), ("Linear", "noise")):
        assert (
            sample(ExactModel(path, prediction), unit_noise(), 5, "stochastic-heun", last_step=None).x.isfinite().all()
        )


def test_intervals():
    for path in ("Linear", "GVP"):
        assert training_interval(path_of(path), "velocity") == ode_interval(path_of(path), "velocity") == (0, 1)
        assert training_interval(path_of(path), "noise") == ode_interval(path_of(path), "score") == (1e-3, 1 - 1e-3)
        assert sde_interval(path_of(path), "velocity", "sigma", 0.04) == (0, 0.96)
        assert sde_interval(path_of(path), "velocity", "SBDM", 0.0) == (1e-3, 1)
        assert sde_interval(path_of(path), "noise", "sigma", 0.0) == (1e-3, 1 - 1e-3)
    for prediction in ("velocity", "score", "noise"):
        assert training_interval(path_of("VP"), prediction) == (0, 1 - 1e-5)
        assert ode_interval(path_of("VP"), prediction) == (0, 1 - 1e-3)
        assert sde_interval(path_of("VP"), prediction, "SBDM", 0.04) == (0, 0.96)
