"""Non-maximum suppression: the order rule, limits, classes, and boxes that cannot be compared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.geometry import bev_iou, multi_class_nms, nms

seeds = st.integers(0, 10**6)
thresholds = st.floats(0, 1)


def scene(seed: int, number: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    boxes = torch.rand(number, 7, generator=rng) * torch.tensor([8, 8, 2, 4, 2, 2, 6]) + 0.1
    scores = torch.randint(0, 20, (number,), generator=rng) / 20  # with ties
    return boxes, scores


def plain(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """The definition: down the list, equal scores in the order given, unless a kept one overlaps more."""
    iou = bev_iou(boxes.double(), boxes.double())
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i)):
        if all(iou[j, i] <= threshold for j in kept):
            kept.append(i)
    return kept


@given(seeds, thresholds)
@settings(max_examples=40)
def test_equals_the_definition(seed, threshold):
    boxes, scores = scene(seed)
    assert nms(boxes, scores, threshold).tolist() == plain(boxes, scores, threshold)


@given(seeds, thresholds, st.integers(0, 40), st.integers(0, 40), st.floats(0, 1))
@settings(max_examples=40)
def test_limits_cut_the_list_before_and_after(seed, threshold, pre, post, score_threshold):
    boxes, scores = scene(seed)
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    order = [i for i in order if scores[i] >= score_threshold][:pre]
    expected = [order[i] for i in plain(boxes[order], scores[order], threshold)][:post]
    assert nms(boxes, scores, threshold, pre, post, score_threshold).tolist() == expected


@given(seeds, thresholds)
@settings(max_examples=40)
def test_what_was_kept_is_kept_again(seed, threshold):
    boxes, scores = scene(seed)
    kept = nms(boxes, scores, threshold)
    assert nms(boxes[kept], scores[kept], threshold).tolist() == list(range(len(kept)))


def test_the_threshold_itself_does_not_suppress():
    boxes = torch.tensor([[0, 0, 0, 4, 2, 1, 0], [2, 0, 5, 4, 2, 1, 0]], dtype=torch.float64)
    scores = torch.tensor([0.5, 0.9])
    third = bev_iou(boxes[:1], boxes[1:]).item()
    assert nms(boxes, scores, third).tolist() == [1, 0]
    assert nms(boxes, scores, third - 1e-9).tolist() == [1]  # at any height


def test_classes_do_not_suppress_each_other():
    boxes, scores = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]]).repeat(4, 1), torch.tensor([0.1, 0.9, 0.8, 0.7])
    labels = torch.tensor([1, 0, 1, 7])
    assert multi_class_nms(boxes, scores, labels, [0.5, 1.0]).tolist() == [1, 2, 0]
    assert multi_class_nms(boxes, scores, labels, [0.5, 1.0], post=[1, 1]).tolist() == [1, 2]
    assert multi_class_nms(boxes, scores, labels, [0.5, 1.0], pre=0).tolist() == []
    assert multi_class_nms(boxes, scores, labels, [0.5, 1.0], score_threshold=0.5).tolist() == [1, 2]


def test_swapped_dimensions_measure_across():
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [0, 2, 0, 4, 2, 1, 0]])  # side by side, touching
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.3).tolist() == [0, 1]
    assert nms(boxes, scores, 0.3, swap_dims=True).tolist() == [0]
    assert multi_class_nms(boxes, scores, torch.zeros(2), [0.3], swap_dims=True).tolist() == [0]


def test_boxes_that_are_not_finite_are_never_kept():
    boxes, scores = scene(3, 6)
    boxes[0, 0], boxes[1, 6], boxes[2, 3], scores[3] = torch.nan, torch.inf, torch.nan, torch.nan
    assert set(nms(boxes, scores, 1.0).tolist()) == {4, 5}


def test_no_boxes():
    assert nms(torch.zeros(0, 7), torch.zeros(0), 0.5).tolist() == []
    assert multi_class_nms(torch.zeros(0, 9), torch.zeros(0), torch.zeros(0), [0.5]).tolist() == []


def test_what_does_not_fit_is_named():
    boxes, scores = scene(0, 4)
    with pytest.raises(ConfigError, match="boxes of shape"):
        nms(boxes[:, :6], scores, 0.5)
    with pytest.raises(ConfigError, match="scores of shape"):
        nms(boxes, scores[:3], 0.5)
    with pytest.raises(ConfigError, match="labels of shape"):
        multi_class_nms(boxes, scores, scores[:3], [0.5])
    with pytest.raises(ConfigError, match="post: 2 values for 1 thresholds"):
        multi_class_nms(boxes, scores, scores, [0.5], post=[1, 2])
