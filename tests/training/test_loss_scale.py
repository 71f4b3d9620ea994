"""The dynamic loss scale: its rule, and that training under it is training without it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback
from tiny_task import TinyTask, tiny_data

from visionseq.training import DynamicLossScale, LossScale, fit
from visionseq.training.loss_scale import has_overflow


@given(st.sampled_from([2.0, 64.0, 1024.0]), st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_overflows_halve_and_clean_stretches_double(first, window, flags):
    scale, expected, clean = DynamicLossScale(first, window), first, 0
    for overflow in flags:
        scale.update(overflow)
        clean = 0 if overflow else clean + 1
        if overflow:
            expected = max(expected / 2, 1.0)
        elif clean == window:
            expected, clean = expected * 2, 0
        assert scale.scale == expected
        restored = DynamicLossScale(first, window)
        restored.load_state_dict(scale.state_dict())
        assert (restored.scale, restored.clean) == (scale.scale, scale.clean)


def test_a_first_scale_of_one_switches_it_off():
    scale = DynamicLossScale(1, window=2)
    for _ in range(9):
        scale.update(False)
    scale.update(True)
    assert scale.scale == 1


@pytest.mark.parametrize(("value", "expected"), [(1.0, False), (float("inf"), True), (float("nan"), True)])
def test_overflow_is_any_gradient_that_is_not_finite(value, expected):
    parameters = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.ones(3), torch.tensor([0.0, value, 0.0])
    assert has_overflow(parameters) == expected


def trained(plugins=(), callbacks=(), **options) -> dict[str, torch.Tensor]:
    options = {"max_steps": 8, "limit_train_batches": 4, **options}
    model = fit(
        TinyTask(),
        tiny_data(),
        ema=None,
        accelerator="cpu",
        progress=False,
        plugins=plugins,
        callbacks=callbacks,
        **options,
    )
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_powers_of_two_change_nothing_also_where_the_scale_grows_within_an_accumulation(accumulate):
    plain = trained(accumulate_grad_batches=accumulate)
    scaled = trained([LossScale(256, window=3)], accumulate_grad_batches=accumulate)
    for name, value in plain.items():
        torch.testing.assert_close(scaled[name], value, rtol=0, atol=1e-7)


class Poison(Callback):
    """An infinite gradient after one backward pass, as float16 would give."""

    def __init__(self, batch: int):
        self.batch, self.count = batch, 0

    def on_train_start(self, trainer, pl_module):
        weight = pl_module.model.model.output.weight
        weight.register_hook(self.poison)

    def poison(self, gradient):
        self.count += 1
        return gradient * float("inf") if self.count == self.batch else gradient


class Weights(Callback):
    def __init__(self):
        self.after = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.after.append(pl_module.model.model.output.weight.detach().clone())


def test_an_overflow_drops_the_gradients_and_halves_the_scale():
    plugin, weights = LossScale(256), Weights()
    result = trained([plugin], [Poison(3), weights])
    assert plugin.loss_scale.scale == 128
    assert torch.equal(weights.after[2], weights.after[1])
    assert not torch.equal(weights.after[3], weights.after[2])
    assert all(value.isfinite().all() for value in result.values())
