"""Properties that every guidance rule has, and what single rules promise."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from visionseq.errors import ConfigError
from visionseq.flow.guidance import ClassifierFree, PlusPlus, RatioAware, Scheduled, chosen_rule, guidance_rule, guided
from visionseq.flow.guidance.names import RULES
from visionseq.flow.guidance.ratio_aware import guidance_ratio
from visionseq.flow.solvers import euler, heun, integrate

GRID = [1.0, 0.75, 0.5, 0.25, 0.0]
STRONG = {"cfg++": {"strength": 0.7}, "raag": {"max_guidance_scale": 9.0, "alpha": 3.0}, "apg": {"momentum": -0.5}}


def rule_of(name, **options):
    scale = {} if name in ("cfg++", "raag") else {"scale": 4.0}
    return guidance_rule(name, {**scale, **STRONG.get(name, {}), **options})


def predictions(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    conditional, unconditional = torch.randn(2, *shape, generator=generator)
    return conditional, unconditional


def run(rule, conditional, unconditional):
    """The guided predictions of the four steps of a trajectory."""
    rule.reset(GRID)
    return torch.stack([rule((1 + i) * conditional, unconditional, t) for i, t in enumerate(GRID[:-1])])


@pytest.mark.parametrize("name", RULES)
def test_equal_predictions_stay(name):
    conditional, _ = predictions(3, 4, 5)
    options = {"zero_steps": 0} if name == "cfg-zero-star" else {}
    rule = rule_of(name, **options)
    rule.reset(GRID)
    torch.testing.assert_close(rule(conditional, conditional.clone(), 0.75), conditional)


@pytest.mark.parametrize("name", RULES)
def test_a_sample_does_not_depend_on_its_batch(name):
    conditional, unconditional = predictions(3, 4, 5)
    together = run(rule_of(name, rescale=0.5), conditional, unconditional)
    alone = [run(rule_of(name, rescale=0.5), conditional[i : i + 1], unconditional[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, 1))


@pytest.mark.parametrize("name", RULES)
def test_a_trajectory_leaves_nothing_to_the_next(name):
    rule = rule_of(name)
    first = run(rule, *predictions(2, 6))
    run(rule, *predictions(2, 6, seed=1))
    assert run(rule, *predictions(2, 6)).equal(first)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zero_predictions_give_numbers(name, value):
    conditional, zero = predictions(2, 6)[0] * value, torch.zeros(2, 6)
    assert run(rule_of(name), conditional, zero).isfinite().all()
    assert run(rule_of(name), zero, conditional).isfinite().all()


@pytest.mark.parametrize("name", RULES)
def test_channels_and_spread(name):
    conditional, unconditional = predictions(2, 4, 5)
    guided_part = run(rule_of(name, channels=3, rescale=1.0), conditional, unconditional)[1]
    assert guided_part[:, 3].equal(2 * conditional[:, 3])
    spreads = [x[:, :3].flatten(1).std(1) for x in (guided_part, 2 * conditional)]
    torch.testing.assert_close(*spreads)


@pytest.mark.parametrize("name", RULES)
def test_the_dtype_stays(name):
    conditional, unconditional = (x.bfloat16() for x in predictions(2, 4, 5))
    assert run(rule_of(name), conditional, unconditional).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_schedule_begins_at_one_and_has_its_mean(kind):
    conditional, unconditional = torch.ones(1, 1), torch.zeros(1, 1)
    for grid in (GRID, GRID[::-1]):
        rule, first = Scheduled(5.0, kind), grid[0]
        rule.reset(grid)
        times = torch.linspace(0, 1, 101).tolist()
        scales = torch.cat([rule(conditional, unconditional, t) for t in times])
        assert rule(conditional, unconditional, first).item() == pytest.approx(1.0)
        assert scales.mean().item() == pytest.approx(5.0)


@pytest.mark.parametrize("data_at", [0, 1])
def test_cfg_plus_plus_keeps_the_unconditional_noise(data_at):
    (v_c, v_u), x, strength = predictions(2, 6), torch.randn(2, 6, generator=torch.Generator().manual_seed(9)), 0.6
    grid = [1.0, 0.6, 0.2, 0.0] if data_at == 0 else [0.0, 0.4, 0.8, 1.0]
    sign = 1 if data_at == 0 else -1
    field = guided(lambda x, t, c: sign * (v_c if c else v_u), True, False, PlusPlus(strength), grid=grid)
    end = integrate(euler, field, x, grid).x

    for t, s in ((1.0, 0.6), (0.6, 0.2), (0.2, 0.0)):
        image, noise = x - t * (v_u + strength * (v_c - v_u)), x + (1 - t) * v_u
        x = (1 - s) * image + s * noise
    torch.testing.assert_close(end, x, rtol=1e-5, atol=1e-5)


def test_cfg_plus_plus_needs_eulers_steps():
    field = guided(lambda x, t, c: x, True, False, PlusPlus(), grid=GRID)
    with pytest.raises(ConfigError, match=r"does not know the step at t = 0\.0"):
        integrate(heun, field, torch.zeros(2, 3), GRID)
    with pytest.raises(ConfigError, match=r"CFG\+\+ needs times of a path between 0 and 1, got 0\.0 to 80\.0"):
        PlusPlus().reset([80.0, 1.0, 0.0])
    with pytest.raises(ConfigError, match="a schedule needs the times of the trajectory"):
        Scheduled(2.0).reset()


def test_a_weak_model_takes_the_place_of_no_class():
    field = guided(lambda x, t, c: x + c, 2.0, weak=lambda x, t, c: x - c, rule=ClassifierFree(3.0))
    assert field(torch.zeros(2, 3), 0.5).eq(-2 + 3 * 4).all()
    assert field.nfe == 2


def test_ratio_aware_guidance_stays_between_the_conditional_prediction_and_its_largest_scale():
    difference, unconditional = (x.expand(64, 10) for x in predictions(1, 10))
    rule = RatioAware(7.0, 2.0)
    rule(unconditional + 10 ** torch.linspace(-4, 2, 64)[:, None] * difference, unconditional, 0.5)
    assert rule.last_weight is not None
    assert ((rule.last_weight >= 1) & (rule.last_weight <= 7)).all()
    assert rule.last_weight.diff().le(0).all()


def test_limits_of_ratio_aware_guidance():
    conditional, unconditional = predictions(2, 6)
    constant = RatioAware(5.0, 0.0)(conditional, unconditional, 0.5)
    torch.testing.assert_close(constant, ClassifierFree(5.0)(conditional, unconditional, 0.5))
    assert not RatioAware(1.0).active(0.5)
    assert RatioAware(1.0, from_conditional=True).active(0.5)
    for options in ({"max_guidance_scale": 0.5}, {"alpha": -1.0}, {"reduction": "mean"}):
        with pytest.raises(ConfigError, match="expected"):
            RatioAware(**options)


@pytest.mark.parametrize("reduction", ["global", "batch_mean"])
def test_reductions_over_the_batch_give_one_ratio(reduction):
    conditional, unconditional = predictions(3, 4, 5)
    ratio = guidance_ratio(conditional, unconditional, reduction)
    assert ratio.ndim == 0
    per_sample = guidance_ratio(conditional[:1], unconditional[:1], reduction)
    torch.testing.assert_close(per_sample, guidance_ratio(conditional[:1], unconditional[:1])[0])


class HostReads(TorchDispatchMode):
    """Counts reads of a tensor's value by the host, which a GPU would have to wait for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", RULES)
def test_no_rule_waits_for_the_device(name):
    rule, reads = rule_of(name), HostReads()
    with reads:
        run(rule, *predictions(2, 6))
    assert reads.count == 0
    with reads:
        torch.ones(1).item()
    assert reads.count == 1


def test_rules_by_name():
    assert guidance_rule("raag", {"alpha": 3.0}) == RatioAware(alpha=3.0)
    with pytest.raises(ConfigError, match="guidance 'rag', expected one of cfg"):
        guidance_rule("rag")
    with pytest.raises(ConfigError, match="guidance 'cfg' has no alpha; its options: interval, channels"):
        guidance_rule("cfg", {"alpha": 1.0})
    assert chosen_rule(None, 1.0) is None
    assert chosen_rule(None, 2.0) == ClassifierFree(2.0)
    with pytest.raises(ConfigError, match="expected one of them"):
        chosen_rule(ClassifierFree(2.0), 3.0)
