"""The formulas against torch's counter, to the last operation."""

import pytest
import torch
from tiny import NETWORK, tiny_model

from visionseq.bfm.convert import build, presets
from visionseq.bfm.flops import measured_flops, step_flops
from visionseq.bfm.model import BFM
from visionseq.bfm.sampling import plan
from visionseq.flow.guidance import ClassifierFree


def check(model: BFM) -> None:
    cost, rows = step_flops(model.config), [1] + [0] * (model.segments - 1)
    x, t, y = torch.zeros(1, *model.sample_shape), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    assert measured_flops(lambda: model(x, t, y, 0)) == cost.full
    assert measured_flops(lambda: model.forward_train(x, t, y, rows)) == cost.training
    if model.has_frn:
        c = model.condition(t, y)
        of_time = measured_flops(lambda: model.condition(t, y))
        assert measured_flops(lambda: model.velocity(x, c, model.residual(x, c), 1)) + of_time == cost.frn


@pytest.mark.parametrize("options", [{}, {"use_swiglu": True}, {"use_swiglu_large": True}, {"learn_sigma": True}])
def test_the_formulas_count_what_torch_counts(options):
    check(tiny_model(finetune=True, **options))


def test_xl_costs_what_the_paper_s_code_costs():
    with torch.device("meta"):
        cost = step_flops(build(presets()["BFM_XL_frn"]).config)
    assert cost.full / 1e9 == pytest.approx(229.20, abs=5e-3)
    assert cost.frn / 1e9 == pytest.approx(93.863, abs=5e-4)
    assert cost.training / 1e9 == pytest.approx(233.36, abs=5e-3)
    tera = [cost.sampler(plan(6, n, frn=True)) / 1e12 for n in (1, 2, 4, 8)]
    assert tera == pytest.approx([1.375, 1.938, 3.065, 5.318], abs=1e-3)


def test_a_whole_sampler_costs_the_sum_of_its_calls():
    model = tiny_model(finetune=True)
    rule = ClassifierFree(scale=2.0, interval=(0.3, 0.78))
    z, y = torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.long)
    options = {"guidance": rule, "frn": True}
    measured = measured_flops(lambda: model.sample(z, 12, y, **options))
    assert measured == step_flops({**NETWORK, **model.config}).sampler(plan(3, 4, frn=True, rule=rule))
