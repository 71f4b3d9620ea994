"""Images from given noise: a stochastic sampler gets the generators, another one does not."""

import torch

from visionseq.data.seeding import generator_for
from visionseq.flow.drawing import draw_images
from visionseq.flow.sde import normal_noise


class Plain:
    def sample(self, noise, steps=3, class_labels=None):
        return noise * steps


class Stochastic:
    def sample(self, noise, steps=3, class_labels=None, generator=None):
        return noise + normal_noise(generator)(noise)


def test_a_plain_sampler_is_called_with_its_steps():
    noise = torch.ones(2, 1, 4, 4)
    assert draw_images(Plain(), noise, generator_for(0)).equal(3 * noise)
    assert draw_images(Plain(), noise, generator_for(0), steps=5).equal(5 * noise)


def test_an_image_of_a_stochastic_sampler_does_not_depend_on_its_batch():
    noise = torch.ones(2, 1, 4, 4)
    both = draw_images(Stochastic(), noise, [generator_for(0), generator_for(1)])
    assert draw_images(Stochastic(), noise[1:], [generator_for(1)]).equal(both[1:])
    assert not both[0].equal(both[1])
