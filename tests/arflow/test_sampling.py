"""The sampler: memories that begin empty and travel, guidance, noise from generators."""

import pytest
import torch
from tiny_arflow import tiny

from visionseq.arflow.sampling import CarriedMemory, sample, time_grid
from visionseq.data.seeding import generator_for
from visionseq.errors import ConfigError
from visionseq.flow import ClassifierFree, SamplingPipeline
from visionseq.flow.sde import normal_noise

CLASSES = torch.tensor([0, 1, 2])


def noise(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(5))


def drawn(model, rows: int = 3, first: int = 0, **options) -> torch.Tensor:
    generators = [generator_for(9, number) for number in range(first, rows)]
    return model.sample(noise(rows)[first:], 6, CLASSES[first:rows], generator=generators, **options)


def test_a_trajectory_leaves_nothing_for_the_next():
    model = tiny()
    before = drawn(model)
    drawn(model, rows=2)  # another batch size
    assert drawn(model).equal(before)


@pytest.mark.parametrize("options", [{}, {"guidance_scale": 2.0}])
def test_an_image_does_not_depend_on_its_batch(options):
    model = tiny()
    torch.testing.assert_close(drawn(model, first=2, **options), drawn(model, **options)[2:], atol=1e-3, rtol=0)


def test_each_call_sees_the_calls_before_it():
    model, x, t = tiny(), noise(), torch.full((3,), 0.5)
    carried = CarriedMemory(model)
    first, second = (carried(x, t, CLASSES) for _ in range(2))
    assert (first - second).abs().max() > 1e-4
    assert CarriedMemory(model)(x, t, CLASSES).equal(first)


@pytest.mark.parametrize(("last_step", "calls"), [("mean", 6), ("euler", 6), ("tweedie", 6), (None, 5)])
def test_network_calls(last_step, calls):
    model, times = tiny(), []
    model.register_forward_hook(lambda module, inputs, output: times.append(inputs[1][0, 0].item()))
    drawn(model, last_step=last_step)
    assert len(times) == calls
    assert times == pytest.approx(time_grid(6, 0.04 if last_step else 0.0)[:calls])


def test_guidance_never_active_gives_the_conditional_images():
    """Both memories advance all the time, and the one without a class leaves the other alone."""
    rule = ClassifierFree(scale=3.0, interval=(2.0, 3.0))
    model = tiny()
    torch.testing.assert_close(drawn(model, guidance=rule), drawn(model), atol=1e-3, rtol=0)


def test_memories_of_guidance_see_every_image():
    model, rows = tiny(), []
    model.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    drawn(model, guidance=ClassifierFree(scale=3.0, interval=(0.3, 0.6)))
    assert rows == [6] * 6


def test_guidance_of_published_samples_leaves_the_fourth_channel():
    model = tiny(in_channels=4)
    x, options = torch.randn(2, 4, 4, 4), {"steps": 2, "class_labels": CLASSES[:2], "diffusion_norm": 0.0}
    plain, three = model.sample(x, **options), model.sample(x, guidance_scale=3.0, **options)
    every = model.sample(x, guidance_scale=3.0, guidance_channels=None, **options)
    # The first step does not see a guided image yet; the last one does.
    first = {}
    for name, extra in {"plain": {}, "three": {"guidance_scale": 3.0}}.items():
        model.sample(x, callback=lambda step, t, state, name=name: first.setdefault(name, state), **options, **extra)
    assert first["three"][:, 3].allclose(first["plain"][:, 3], atol=1e-5)
    assert not first["three"][:, :3].allclose(first["plain"][:, :3], atol=1e-3)
    assert not every.allclose(three, atol=1e-3)
    assert not plain.allclose(three, atol=1e-3)


def test_without_diffusion_the_generator_does_not_matter():
    model = tiny()
    a, b = (model.sample(noise(), 6, CLASSES, diffusion_norm=0.0, generator=generator_for(seed)) for seed in (1, 2))
    assert a.equal(b)


def test_no_class_means_the_null_label():
    model = tiny()
    null = torch.full((3,), model.null_label)
    a, b = (model.sample(noise(), 3, labels, generator=generator_for(1)) for labels in (None, null))
    assert a.equal(b)


def test_the_pipeline_draws_the_same_images_one_by_one():
    pipe = SamplingPipeline(tiny())
    options = {"num_inference_steps": 4, "class_labels": [0, 1, 2], "output_type": "pt"}
    images = pipe(3, generator=[generator_for(i) for i in range(3)], **options).images
    again = pipe(3, generator=[generator_for(i) for i in range(3)], **options).images
    assert images.equal(again)
    assert images.shape == (3, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps 1"),
        ({"last_step_size": 1.0}, r"last_step_size 1\.0"),
        ({"diffusion_form": "SBDM"}, "SBDM is infinite"),
        ({"diffusion_form": "none"}, "diffusion form 'none'"),
        ({"last_step": "heun"}, "last step 'heun'"),
        ({"class_labels": torch.tensor([0, 1])}, r"class_labels: .* \[2\], expected integers \[3\]"),
    ],
)
def test_values_that_are_not_possible_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        sample(tiny(), noise(), normal_noise(generator_for(0)), **{"steps": 3, "class_labels": CLASSES, **options})


def test_a_model_that_drops_no_class_has_no_guidance():
    model = tiny(class_dropout_prob=0.0)
    assert len(model.y_embedder.embedding_table.weight) == 3
    with pytest.raises(ConfigError, match="no row for no class"):
        drawn(model, guidance_scale=2.0)
    drawn(model)
