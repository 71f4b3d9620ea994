"""Guidance rules, the field that is made of a model, and what it evaluates when."""

from dataclasses import dataclass

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.flow.guidance import ClassifierFree, Guidance, Slope, guided
from visionseq.flow.solvers import euler, heun, integrate


class Recorder:
    """A model whose prediction is the class, and which remembers its calls; class 9 is no class."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, labels):
        self.calls.append((tuple(x.shape), t, None if labels is None else labels.tolist()))
        return torch.zeros_like(x) if labels is None else labels.view(-1, *[1] * (x.ndim - 1)).float().expand_as(x)

    def no_class(self, labels):
        return torch.full_like(labels, 9)


LABELS = torch.tensor([1, 2])


def x(channels: int = 4) -> torch.Tensor:
    return torch.zeros(2, channels, 3)


def test_scales_of_classifier_free_guidance():
    conditional, unconditional = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    assert ClassifierFree(scale=0.0)(conditional, unconditional, 0.5).equal(unconditional)
    assert ClassifierFree(scale=1.0)(conditional, unconditional, 0.5).equal(conditional)
    assert ClassifierFree(scale=2.0)(conditional, unconditional, 0.5).equal(torch.tensor([5.0, 0.0]))


def test_guided_channels():
    conditional, unconditional = torch.ones(2, 4, 3), torch.zeros(2, 4, 3)
    some = ClassifierFree(scale=5.0, channels=3)(conditional, unconditional, 0.5)
    assert some[:, :3].eq(5).all()
    assert some[:, 3].eq(1).all()


@pytest.mark.parametrize("joint", [False, True])
def test_both_predictions_meet_in_the_rule(joint):
    model = Recorder()
    field = guided(model, LABELS, rule=ClassifierFree(scale=3.0), joint=joint)
    expected = (9 + 3 * (LABELS - 9)).view(2, 1, 1).expand(2, 4, 3).float()
    torch.testing.assert_close(field(x(), 0.25), expected)
    assert field.nfe == 2
    labels = [call[2] for call in model.calls]
    assert labels == ([[1, 2, 9, 9]] if joint else [[1, 2], [9, 9]])
    assert all(t.dtype == torch.float32 and t.eq(0.25).all() and len(t) == shape[0] for shape, t, _ in model.calls)


@pytest.mark.parametrize("rule", [None, ClassifierFree(scale=1.0), ClassifierFree(scale=2.0, interval=(0.5, 1.0))])
def test_without_guidance_there_is_one_evaluation(rule):
    model = Recorder()
    field = guided(model, LABELS, rule=rule)
    torch.testing.assert_close(field(x(), 0.25), LABELS.view(2, 1, 1).expand(2, 4, 3).float())
    assert field.nfe == len(model.calls) == 1


def test_the_ends_of_the_interval_belong_to_it():
    rule = ClassifierFree(scale=2.0, interval=(0.25, 0.5))
    assert [rule.active(t) for t in (0.24, 0.25, 0.5, 0.51)] == [False, True, True, False]
    with pytest.raises(ConfigError, match="lower time first"):
        ClassifierFree(scale=2.0, interval=(0.5, 0.25))


def test_the_unconditional_prediction_may_be_made_outside_the_interval():
    model = Recorder()
    rule = ClassifierFree(scale=2.0, interval=(0.5, 1.0))
    field = guided(model, LABELS, rule=rule, joint=True, unconditional_at=lambda t: t > 0.1)
    torch.testing.assert_close(field(x(), 0.25), LABELS.view(2, 1, 1).expand(2, 4, 3).float())
    assert field.nfe == 2
    assert field(x(), 0.05).shape == x().shape
    assert field.nfe == 3


@dataclass
class Decaying(Guidance):
    """A rule with memory: the scale halves with every call of a trajectory."""

    scale: float = 8.0

    def reset(self, grid=None) -> None:
        self.scale = 8.0

    def combine(self, conditional, unconditional, t):
        self.scale /= 2
        return unconditional + self.scale * (conditional - unconditional)


def test_the_memory_of_a_rule_lasts_one_trajectory():
    rule = Decaying()
    ends = [
        integrate(euler, guided(Recorder(), LABELS, rule=rule), x(), [0.0, 0.5, 1.0], record=False) for _ in range(2)
    ]
    assert rule.scale == 2.0
    torch.testing.assert_close(ends[0].x, ends[1].x)
    assert ends[0].nfe == 4


def test_slopes_of_other_predictions_keep_the_count():
    field = Slope(
        guided(Recorder(), LABELS, rule=ClassifierFree(scale=2.0, interval=(0.0, 0.5))), lambda x, y, t: y + t
    )
    trajectory = integrate(heun, field, x(), [1.0, 0.0])
    assert trajectory.nfe == 1 + 2
    plain = integrate(euler, Slope(guided(Recorder(), LABELS), lambda x, y, t: y + t), x(), [1.0, 0.0])
    torch.testing.assert_close(plain.x, -(LABELS.view(2, 1, 1) + 1.0).expand(2, 4, 3))


def test_what_cannot_be_guided_is_refused():
    with pytest.raises(ConfigError, match="ClassifierFree needs class labels"):
        guided(Recorder(), None, rule=ClassifierFree(scale=2.0))
    with pytest.raises(ConfigError, match="joint evaluation needs tensors"):
        guided(lambda x, t, labels: x, LABELS, rule=ClassifierFree(scale=2.0), joint=True)
