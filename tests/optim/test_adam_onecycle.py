"""The one-cycle schedule: its shape, what does not decay, and a resume to the bit."""

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.optim.adam_onecycle import AdamOneCycle


def test_rate_and_momentum_go_opposite_ways():
    values = AdamOneCycle(lr=0.1, pct_start=0.4, div_factor=10).at(100)
    rates, betas = zip(*(values(i) for i in range(100)), strict=True)
    assert rates[0] == pytest.approx(0.01)
    assert rates[40] == max(rates) == pytest.approx(0.1)
    assert rates[-1] < 1e-3
    assert betas[0] == pytest.approx(0.95)
    assert betas[40] == min(betas) == pytest.approx(0.85)


def test_marked_parameters_do_not_decay():
    kept, decayed = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    kept._no_weight_decay = True
    optimizer = AdamOneCycle(weight_decay=1.0).build([kept, decayed], 10)["optimizer"]
    kept.grad, decayed.grad = torch.zeros(2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(kept, torch.ones(2))
    assert (decayed < 1).all()


def steps(parameter, built, first, last):
    for i in range(first, last):
        parameter.grad = torch.full_like(parameter, 0.1 * i - 0.3)
        built["optimizer"].step()
        built["lr_scheduler"]["scheduler"].step()


def test_a_resumed_run_ends_at_the_same_bits():
    options, straight, halted = AdamOneCycle(), torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    steps(straight, options.build([straight], 10), 0, 10)
    first = options.build([halted], 10)
    steps(halted, first, 0, 4)
    second = options.build([halted], 10)
    second["optimizer"].load_state_dict(first["optimizer"].state_dict())
    second["lr_scheduler"]["scheduler"].load_state_dict(first["lr_scheduler"]["scheduler"].state_dict())
    steps(halted, second, 4, 10)
    assert torch.equal(straight, halted)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"pct_start": 2}, {"div_factor": -1}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="optimizer"):
        AdamOneCycle(**wrong)
    with pytest.raises(ConfigError, match="over 0 updates"):
        AdamOneCycle().build([torch.nn.Parameter(torch.ones(1))], 0)
