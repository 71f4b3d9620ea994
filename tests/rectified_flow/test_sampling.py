"""Few-step samplers: grids, rules, solvers, guidance, on flows whose answer is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.rectified_flow.model import EDMVelocity, build_network
from visionseq.rectified_flow.sampling import T_START, sample, time_grid

STEPS = {"euler": [1, 2, 5, 8], "heun": [1, 3, 5, 9]}
CHOICES = [(solver, rule, steps) for solver in STEPS for rule in ("default", "new") for steps in STEPS[solver]]


def noise(seed=0, rows=2, dtype=torch.float32):
    return torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def straight(target):
    """The flow whose lines end in `target`: v = (x_t - x) / t."""
    return lambda x_t, t, labels: (x_t - target) / t.view(-1, 1, 1, 1)


def curved(x_t, t, labels):
    """dx/dt = cos(3 t) x + t: a smooth linear ODE that no straight line solves."""
    t = t.view(-1, 1, 1, 1)
    return torch.cos(3 * t) * x_t + t


@pytest.fixture(scope="module")
def velocity():
    torch.manual_seed(0)
    network = build_network({"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1, "label_dim": 3})
    return EDMVelocity(network).eval()


@pytest.mark.parametrize(("solver", "rule", "steps"), CHOICES)
def test_every_sampler_is_exact_on_a_straight_flow(solver, rule, steps):
    z, target = noise(0), noise(1)
    trajectory = sample(straight(target), z, steps, solver, rule)
    torch.testing.assert_close(trajectory.x, target, rtol=0, atol=1e-4)
    torch.testing.assert_close(trajectory.predictions, target.expand_as(trajectory.predictions), rtol=0, atol=1e-3)
    assert trajectory.straightness().max() < 1e-6
    assert trajectory.nfe == steps


@given(st.integers(0, 1000), st.integers(1, 12))
@settings(deadline=None, max_examples=30)
def test_even_lines_have_straightness_zero_for_any_number_of_steps(seed, steps):
    drift = noise(seed, rows=3)
    trajectory = sample(lambda x, t, labels: drift, noise(seed + 1, rows=3), steps, rule="default")
    assert trajectory.straightness().shape == (3,)
    assert trajectory.straightness().max() < 1e-6


def test_curved_flows_are_not_straight():
    assert sample(curved, noise(), 8).straightness().min() > 1e-3


@pytest.mark.parametrize("solver", STEPS)
def test_rules_agree_at_one_step(velocity, solver):
    default, new = (sample(velocity, noise(), 1, solver, rule) for rule in ("default", "new"))
    assert default.x.equal(new.x)
    assert default.x.equal(default.predictions[0])


def test_rules_differ_from_two_steps_on(velocity):
    default, new = (sample(velocity, noise(), 2, rule=rule) for rule in ("default", "new"))
    assert not torch.allclose(default.x, new.x)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(solver, order):
    z = noise(dtype=torch.float64)
    reference = sample(curved, z, 4001, "heun", "default").x
    errors = []
    for intervals in (20, 40):
        steps = intervals if solver == "euler" else 2 * intervals - 1
        errors.append((sample(curved, z, steps, solver, "default").x - reference).abs().max())
    # Heun's Euler step at the end costs h^2 / 2 x'', as much as the rest: the order stays 2.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_start_and_grid():
    trajectory = sample(curved, noise(), 4)
    assert trajectory.states[0].equal(noise() * T_START)
    assert trajectory.t.tolist() == [T_START, 0.75, 0.5, 0.25, 0.0]
    assert time_grid(5, "heun") == [T_START, 2 / 3, 1 / 3, 0.0]
    assert len(trajectory.predictions) == 4
    assert trajectory.x.equal(trajectory.states[-1])


def test_custom_grid_replaces_the_even_one():
    even = sample(curved, noise(), 4)
    custom = sample(curved, noise(), t_steps=[1.0, 0.75, 0.5, 0.25])
    assert custom.states.equal(even.states)
    assert custom.nfe == 4
    assert sample(curved, noise(), t_steps=[1.0, 0.9, 0.1], solver="heun").nfe == 5


def test_network_sees_the_float32_time_of_the_official_code():
    seen = []

    def spy(x, t, labels):
        seen.append(t)
        return torch.zeros_like(x)

    sample(spy, noise(dtype=torch.float64), 2)
    assert all(t.dtype == torch.float32 and t.shape == (2,) for t in seen)
    sigma = (seen[0] / (1 - seen[0])).double()
    torch.testing.assert_close(sigma, torch.full((2,), 99863.38, dtype=torch.float64), rtol=1e-7, atol=0)
    assert sample(spy, noise().half(), 1).x.dtype == torch.float32


@pytest.mark.parametrize("solver", STEPS)
def test_guidance_is_the_extrapolated_velocity(velocity, solver):
    labels = torch.tensor([0, 2])

    def guided(x, t, _):
        none, some = velocity(x, t, torch.zeros(2, 3)), velocity(x, t, labels)
        return none + 2.5 * (some - none)

    found = sample(velocity, noise(), 3, solver, class_labels=labels, guidance_scale=2.5)
    torch.testing.assert_close(found.states, sample(guided, noise(), 3, solver).states)
    assert found.nfe == 6


def test_labels_matter_and_one_hot_is_the_same(velocity):
    labels = torch.tensor([0, 2])
    one_hot = torch.eye(3)[labels]
    found = sample(velocity, noise(), 2, class_labels=labels).x
    assert found.equal(sample(velocity, noise(), 2, class_labels=one_hot).x)
    assert not torch.allclose(found, sample(velocity, noise(), 2).x)


def test_callback_sees_every_step():
    calls = []
    trajectory = sample(curved, noise(), 5, "heun", callback=lambda *call: calls.append(call))
    assert [(step, t) for step, t, _ in calls] == list(enumerate(time_grid(5, "heun")[1:]))
    assert all(state.equal(kept) for (_, _, state), kept in zip(calls, trajectory.states[1:], strict=True))


def test_unrecorded_trajectories_end_the_same():
    bare = sample(curved, noise(), 4, record=False)
    assert bare.x.equal(sample(curved, noise(), 4).x)
    assert bare.states is None
    with pytest.raises(ConfigError, match="record=True"):
        bare.straightness()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 4, "solver": "heun"}, "steps: 4 for heun, expected an odd number"),
        ({"steps": 0}, "steps: 0 for euler"),
        ({"solver": "rk4"}, "solver 'rk4', expected euler or heun"),
        ({"rule": "old"}, "rule 'old', expected default or new"),
        ({"t_steps": [1.0, 0.5, 0.5]}, "t_steps"),
        ({"t_steps": [1.0, 0.5, 0.0]}, "t_steps"),
        ({"t_steps": []}, "t_steps"),
        ({"guidance_scale": 2.0}, "ClassifierFree needs class labels"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        sample(curved, noise(), **options)
