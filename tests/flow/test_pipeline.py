"""The sampling pipeline: where noise and classes come from, what a model's sampler is given, what comes back."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visionseq
from visionseq.errors import ConfigError
from visionseq.flow import SamplingPipeline
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network


class Recorder(nn.Module):
    """A model whose images are its noise, and which remembers what it was given."""

    def __init__(self, label_dim: int = 0, shape: tuple[int, int, int] = (1, 4, 4)):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.label_dim, self.sample_shape = label_dim, shape

    def sample(self, noise: Tensor, steps: int = 7, class_labels: Tensor | None = None, callback=None) -> Tensor:
        self.steps, self.labels, self.was_training = steps, class_labels, self.training
        for step in range(steps if callback else 0):
            callback(step, 1 - (step + 1) / steps, noise)
        return noise


def generators(seeds) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_formats():
    pipe = SamplingPipeline(Recorder(shape=(3, 4, 5)))
    noise = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    unit = (noise / 2 + 0.5).clamp(0, 1)

    def images(kind: str):
        return pipe(2, generator=torch.Generator().manual_seed(0), output_type=kind).images

    torch.testing.assert_close(images("pt"), unit)
    assert images("np").shape == (2, 4, 5, 3)
    np.testing.assert_allclose(images("np"), unit.permute(0, 2, 3, 1).numpy())
    pictures = images("pil")
    assert [picture.size for picture in pictures] == [(5, 4)] * 2
    assert np.array_equal(np.asarray(pictures[1]), (unit[1] * 255).round().byte().permute(1, 2, 0).numpy())
    with pytest.raises(ConfigError, match="output_type 'jpg'"):
        images("jpg")


def test_one_generator_per_image_makes_images_independent_of_the_batch():
    pipe = SamplingPipeline(Recorder(label_dim=10))
    whole = pipe(5, generator=generators(range(5)), output_type="pt")
    parts = [pipe(len(seeds), generator=generators(seeds), output_type="pt") for seeds in ([0, 1, 2], [3, 4])]
    assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
    assert torch.equal(whole.class_labels, torch.cat([part.class_labels for part in parts]))
    with pytest.raises(ConfigError, match="2 generators for 5 images"):
        pipe(5, generator=generators([0, 1]))


def test_without_a_generator_torchs_seed_decides():
    pipe = SamplingPipeline(Recorder())
    torch.manual_seed(3)
    first = pipe(2, output_type="pt").images
    torch.manual_seed(3)
    assert torch.equal(pipe(2, output_type="pt").images, first)
    assert not torch.equal(pipe(2, output_type="pt").images, first)


@pytest.mark.parametrize(("given", "expected"), [(4, [4, 4, 4]), ([1, 2, 3], [1, 2, 3]), (torch.tensor([7]), [7] * 3)])
def test_classes(given, expected):
    model = Recorder(label_dim=10)
    output = SamplingPipeline(model)(3, class_labels=given, output_type="pt")
    assert output.class_labels.dtype == torch.int64
    assert output.class_labels.tolist() == model.labels.tolist() == expected


def test_a_class_leaves_the_noise_as_it_is():
    pipe = SamplingPipeline(Recorder(label_dim=10))
    drawn = pipe(3, generator=torch.Generator().manual_seed(0), output_type="pt")
    given = pipe(3, generator=torch.Generator().manual_seed(0), output_type="pt", class_labels=2)
    assert torch.equal(drawn.images, given.images)


def test_missing_classes_are_drawn_from_all():
    labels = SamplingPipeline(Recorder(label_dim=3))(100, output_type="pt").class_labels
    assert set(labels.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("label_dim", "labels", "message"),
    [
        (0, 1, "unconditional"),
        (10, 10, "expected 0 to 9"),
        (10, [-1, 0, 0], "expected 0 to 9"),
        (10, [1, 2], "expected one integer or 3"),
        (10, 0.5, "float32"),
        (10, torch.zeros(3, 10, dtype=torch.int64), "expected one integer or 3"),
    ],
)
def test_classes_that_do_not_fit(label_dim, labels, message):
    with pytest.raises(ConfigError, match=message):
        SamplingPipeline(Recorder(label_dim))(3, class_labels=labels)


def test_steps_callback_and_defaults_are_the_models():
    model, seen = Recorder().train(), []
    pipe = SamplingPipeline(model)
    pipe(output_type="pt")
    assert model.steps == 7
    assert not model.was_training
    pipe(num_inference_steps=3, callback=lambda step, time, state: seen.append((step, round(time, 3), state.shape)))
    assert seen == [(0, 0.667, (1, 1, 4, 4)), (1, 0.333, (1, 1, 4, 4)), (2, 0.0, (1, 1, 4, 4))]


def test_options_that_the_sampler_does_not_know_are_refused():
    pipe = SamplingPipeline(Recorder())
    with pytest.raises(ConfigError, match="Recorder has no guidance_scale and no rule"):
        pipe(guidance_scale=2.0, rule="new")
    with pytest.raises(ConfigError, match="batch_size 0"):
        pipe(0)
    with pytest.raises(ConfigError, match="Linear draws no images"):
        SamplingPipeline(nn.Linear(1, 1))


def test_options_are_those_of_the_samplers_signature():
    class Stochastic(Recorder):
        def sample(self, noise, steps=7, class_labels=None, temperature=1.0, generator=None):
            self.temperature, self.generator = temperature, generator
            return noise

    model = Stochastic()
    pipe = SamplingPipeline(model)
    pipe(2, temperature=0.5, generator=generators([0, 1]))
    assert model.temperature == 0.5
    assert len(model.generator) == 2
    pipe(temperature=None)
    assert model.temperature == 1.0
    assert model.generator is torch.default_generator
    with pytest.raises(ConfigError, match=r"Stochastic has no temprature; did you mean temperature\?"):
        pipe(temprature=2)
    with pytest.raises(ConfigError, match="has no callback; its options: steps, temperature, generator"):
        pipe(callback=print)


def test_latents_are_decoded():
    decoder = nn.ConvTranspose2d(1, 3, 2, stride=2)
    pipe = SamplingPipeline(Recorder(), decoder)
    latents = pipe(2, generator=torch.Generator().manual_seed(0), output_type="latent").images
    assert latents.shape == (2, 1, 4, 4)
    images = pipe(2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    torch.testing.assert_close(images, (decoder(latents) / 2 + 0.5).clamp(0, 1))
    model = Recorder()
    model.decoder = decoder
    assert SamplingPipeline(model)(1).images[0].size == (8, 8)


def test_classes_by_name():
    model = Recorder(label_dim=3)
    model.preprocessing = {"class_names": ["cat", "dog", "eel"]}
    pipe = SamplingPipeline(model)
    assert pipe(2, class_labels="eel").class_labels.tolist() == [2, 2]
    assert pipe(3, class_labels=["dog", 0, "cat"]).class_labels.tolist() == [1, 0, 0]
    with pytest.raises(ConfigError, match="no class 'cats'; nearest: cat"):
        pipe(class_labels="cats")
    with pytest.raises(ConfigError, match="no class 'cat'; the model's classes: without names"):
        SamplingPipeline(Recorder(label_dim=3))(class_labels="cat")


NETWORKS = [
    {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 32, "label_dim": 3},
    {"type": "PatchTransformer", "img_resolution": 8, "in_channels": 1, "width": 32, "depth": 1, "label_dim": 3},
    {
        "type": "SongUNet",
        "img_resolution": 8,
        "in_channels": 1,
        "out_channels": 1,
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "label_dim": 3,
    },
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["type"])
def test_half_precision(network):
    torch.manual_seed(0)
    model = EDMVelocity(build_network(network))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    pipe = SamplingPipeline(model)

    def images() -> Tensor:
        noise_source = torch.Generator().manual_seed(0)
        return pipe(4, 2, generator=noise_source, class_labels=[0, 1, 2, 0], output_type="latent").images

    expected = images()
    assert pipe.to(torch.bfloat16).dtype == torch.bfloat16
    half = images()
    assert half.dtype == torch.float32
    assert (half - expected).norm() < 0.03 * expected.norm()
    assert pipe.to("cpu", torch.float32).dtype == torch.float32
    with pytest.raises(ConfigError, match="int8, expected a floating point one"):
        pipe.to(dtype=torch.int8)


def test_saved_and_opened_again(tmp_path):
    torch.manual_seed(0)
    pipe = SamplingPipeline(EDMVelocity(build_network(NETWORKS[0])))
    pipe.save_pretrained(tmp_path)
    again = visionseq.pipeline(tmp_path, dtype=torch.float64)
    assert again.dtype == torch.float64
    again.to(torch.float32)
    drawn = [each(2, generator=torch.Generator().manual_seed(0), output_type="pt").images for each in (pipe, again)]
    assert torch.equal(*drawn)


def test_tuple_output():
    (images,) = SamplingPipeline(Recorder())(2, return_dict=False)
    assert len(images) == 2


@pytest.mark.parametrize("kind", [EDMDenoiser, EDMVelocity])
def test_models_of_a_folder(kind, tmp_path):
    config = {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 16, "num_blocks": 1}
    model = kind(build_network(config))
    model.save_pretrained(tmp_path)
    pipe = SamplingPipeline.from_pretrained(tmp_path).to("cpu")
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    found = pipe(3, num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="pt").images
    expected = model.eval().sample(noise, 2)
    torch.testing.assert_close(found, (expected / 2 + 0.5).clamp(0, 1))
    assert pipe.device == torch.device("cpu")
