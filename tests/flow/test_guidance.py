"""Guidance rules."""

import torch

from visionseq.flow.guidance import classifier_free


def test_scales_of_classifier_free_guidance():
    none, some = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    assert classifier_free(none, some, 0.0).equal(none)
    assert classifier_free(none, some, 1.0).equal(some)
    assert classifier_free(none, some, 2.0).equal(torch.tensor([5.0, 0.0]))
