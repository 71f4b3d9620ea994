"""Optimisers and learning rates as functions of the update."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.optim.factory import OptimizerConfig


def rates(config: OptimizerConfig, updates: int, total: int = 100) -> list[float]:
    """The rate of each update, from the scheduler itself."""
    built = config.build([torch.nn.Parameter(torch.ones(2))], total)
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@given(st.floats(1e-6, 10), st.integers(0, 40))
def test_the_warm_up_rises_in_equal_steps_and_reaches_the_base_rate(lr, warmup):
    found = rates(OptimizerConfig(lr, warmup_steps=warmup), warmup + 3)
    assert found[:warmup] == pytest.approx([lr * (i + 1) / warmup for i in range(warmup)])
    assert found[warmup:] == [lr] * 3


@given(st.floats(1e-6, 10), st.integers(1, 40))
def test_the_official_warm_up_starts_at_zero_and_stops_one_step_short(lr, warmup):
    found = rates(OptimizerConfig(lr, warmup_steps=warmup, official_warmup=True), warmup + 3)
    assert found[:warmup] == pytest.approx([lr * i / warmup for i in range(warmup)])
    assert found[0] == 0
    assert found[warmup:] == pytest.approx([lr * (warmup - 1) / warmup] * 3)


def test_cosine_falls_from_the_base_rate_to_zero():
    found = rates(OptimizerConfig(2.0, warmup_steps=10, schedule="cosine"), 101)
    assert found[10] == 2.0
    assert found[55] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert found[100] == pytest.approx(0, abs=1e-12)
    assert found[10:] == sorted(found[10:], reverse=True)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_each_name_makes_its_optimiser_with_its_values(name, kind):
    config = OptimizerConfig(0.1, name=name, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.25)
    optimizer = config.build([torch.nn.Parameter(torch.ones(2))], 10)["optimizer"]
    assert type(optimizer) is kind
    (values,) = optimizer.param_groups
    assert values["weight_decay"] == 0.25
    assert values["momentum"] == 0.5 if name == "sgd" else (values["betas"], values["eps"]) == ((0.5, 0.7), 1e-3)


def test_adam_makes_the_steps_of_its_definition():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    built = OptimizerConfig(0.1, eps=1e-8).build([parameter], 10)
    gradients = [torch.tensor([0.5, -1.0]), torch.tensor([0.1, 3.0])]
    expected, m, v = torch.tensor([1.0, -2.0]), torch.zeros(2), torch.zeros(2)
    for step, gradient in enumerate(gradients, 1):
        parameter.grad = gradient.clone()
        built["optimizer"].step()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = expected - 0.1 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"lr": 1.0, "warmup_steps": -1},
        {"lr": 1.0, "name": "lion"},
        {"lr": 1.0, "schedule": "linear"},
        {"lr": 1.0, "official_warmup": True, "schedule": "cosine"},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="optimizer"):
        OptimizerConfig(**wrong)


def test_a_cosine_needs_steps_after_the_warm_up():
    with pytest.raises(ConfigError, match="10 steps with 10 of warm-up"):
        OptimizerConfig(1.0, warmup_steps=10, schedule="cosine").build([torch.nn.Parameter(torch.ones(1))], 10)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_marked_parameters_do_not_decay(name):
    """Without a gradient nothing but the decay moves a parameter; a mark survives until the optimiser is built."""
    plain, marked = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    marked._no_weight_decay = True
    for parameter in (plain, marked):
        parameter.grad = torch.zeros(2)
    built = OptimizerConfig(0.1, name=name, weight_decay=0.5).build([plain, marked], 10)  # the scheduler looks at it
    built["optimizer"].step()
    assert torch.equal(marked, torch.ones(2))
    assert (plain < 1).all()


def test_biases_and_gains_can_be_exempt_from_the_decay():
    matrix, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    config = OptimizerConfig(0.1, name="adamw", weight_decay=0.5, decay_vectors=False)
    groups = config.build([matrix, bias], 10)["optimizer"].param_groups
    assert [(group["weight_decay"], [len(p.shape) for p in group["params"]]) for group in groups] == [
        (0.5, [2]),
        (0.0, [1]),
    ]
