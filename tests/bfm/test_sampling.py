"""Samplers beyond the golden vectors: what a plan says, what the pipeline gets, what is refused."""

import pytest
import torch
from tiny import tiny_model

from visionseq.bfm.sampling import plan, sample
from visionseq.errors import ConfigError
from visionseq.flow.guidance import ClassifierFree
from visionseq.flow.pipeline import SamplingPipeline

LABELS = torch.tensor([0, 2])


def noise(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(3))


def test_a_segment_that_is_guided_anywhere_begins_with_both_halves():
    rule = ClassifierFree(scale=2.0, interval=(0.3, 0.78))
    calls = plan(3, 4, frn=True, rule=rule)
    doubled = [call.both for call in calls]
    assert doubled == [True, False, False, True, True, True, True, True, True, False, False, False]
    assert [call.frn for call in calls] == [False, True, True, True] * 3
    assert [call.weight for call in calls[:4]] == pytest.approx([0, 0.25, 0.5, 0.75], abs=1e-6)
    without_frn = [call.both for call in plan(3, 4, rule=rule)]
    assert without_frn == [call.guided for call in calls]


def test_the_sde_has_one_call_more_officially():
    assert len(plan(6, 41, "euler-maruyama")) == 247
    assert len(plan(6, 41, "euler-maruyama", last_step="mean")) == 246
    assert plan(6, 41, "euler-maruyama")[-1] == plan(6, 41, "euler-maruyama")[-2]


def test_with_one_step_in_a_segment_nothing_is_approximated():
    model = tiny_model(finetune=True)
    full, cheap = (sample(model, noise(), LABELS, 1, frn=frn).x for frn in (False, True))
    assert cheap.equal(full)
    assert not sample(model, noise(), LABELS, 2, frn=True).x.equal(sample(model, noise(), LABELS, 2).x)


def test_evaluations_are_counted():
    model = tiny_model(finetune=True)
    rule = ClassifierFree(scale=2.0, interval=(0.3, 0.78))
    trajectory = sample(model, noise(), LABELS, 4, frn=True, rule=rule)
    assert trajectory.nfe == sum(2 if call.both else 1 for call in trajectory.calls) == 19
    assert trajectory.x.dtype == torch.float64


def test_images_do_not_depend_on_their_batch():
    model = tiny_model()

    def drawn(rows: slice) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(row) for row in range(2)[rows]]
        return model.sample(noise()[rows], 6, LABELS[rows], solver="euler-maruyama", generator=generators)

    torch.testing.assert_close(drawn(slice(None))[1:], drawn(slice(1, 2)), atol=1e-5, rtol=1e-5)


def test_the_pipeline_hands_on_the_options():
    model = tiny_model(finetune=True)
    seen = []
    options = {"guidance": ClassifierFree(scale=2.0, interval=(0.5, 1.0)), "frn": True}
    images = SamplingPipeline(model)(
        2,
        6,
        torch.Generator().manual_seed(0),
        [0, 2],
        "latent",
        callback=lambda step, t, x: seen.append((step, round(t, 3))),
        **options,
    ).images
    assert images.shape == (2, 1, 4, 4)
    assert images.dtype == torch.float32
    assert seen == [(0, 0.833), (1, 0.667), (2, 0.5), (3, 0.333), (4, 0.167), (5, 0.0)]
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 7}, "steps 7, expected a multiple of the 3 segments"),
        ({"solver": "heun"}, "solver 'heun'"),
        ({"frn": True}, "no FRN"),
        ({"solver": "euler-maruyama", "last_step": "none"}, "last_step 'none'"),
        ({"solver": "euler-maruyama", "steps": 3}, "1 step in a segment of the SDE"),
        ({"class_labels": None}, "class_labels are missing"),
    ],
)
def test_choices_that_do_not_exist(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_model().sample(noise(), **{"steps": 6, "class_labels": LABELS, **options})


def test_choices_that_do_not_go_together():
    with pytest.raises(ConfigError, match="no SDE with approximated features"):
        sample(tiny_model(finetune=True), noise(), LABELS, 2, "euler-maruyama", frn=True)
    with pytest.raises(ConfigError, match="noise is missing"):
        sample(tiny_model(), noise(), LABELS, 2, "euler-maruyama")
    with pytest.raises(ConfigError, match="class_dropout_prob above 0"):
        tiny_model(class_dropout_prob=0.0).sample(noise(), 6, LABELS, guidance_scale=2.0)


def test_the_sde_without_noise_follows_its_drift():
    model = tiny_model()
    silent = sample(model, noise(), LABELS, 3, "euler-maruyama", last_step="mean", noise=torch.zeros_like)
    x, t = silent.states[0], silent.t
    for number, call in enumerate(silent.calls):
        v = model(x.float(), torch.full((2,), call.t), LABELS, call.segment).double()
        x = x + ((2 - call.t) * v + x) * (t[number + 1] - t[number])  # (2 - t) v + x, the drift of the linear path
        torch.testing.assert_close(silent.states[number + 1], x, atol=1e-5, rtol=1e-5)
