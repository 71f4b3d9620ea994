"""Non-maximum suppression of rotated boxes by their exact BEV IoU; heights are ignored.

Boxes are visited in the order of their scores, and of their rows where scores are equal. A box is kept unless its IoU
with a box kept before exceeds the threshold (strictly). A box whose score is NaN, or whose place, size or heading is
not finite, is never kept.

Everything runs on the CPU in float64; the result is on the device of the boxes. Wrong shapes, and limits for another
number of classes, raise `ConfigError`.

Legend: N boxes, K kept ones, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from visionseq.errors import ConfigError

Limit = int | None


def nms(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    pre: Limit = None,
    post: Limit = None,
    score_threshold: float | None = None,
    swap_dims: bool = False,
) -> Tensor:
    """Indices [K] int64 of the boxes kept, the best first; classes are ignored.

    Args:
        boxes: [N, >= 7], (x, y, z, dx, dy, dz, heading, ...).
        scores: [N].
        threshold: largest BEV IoU that two kept boxes may have.
        pre: number of the best boxes that take part; None: all.
        post: largest number of boxes kept; None: no limit.
        score_threshold: lowest score that takes part; None: any.
        swap_dims: measure with dx and dy exchanged, see `multi_class_nms`.
    """
    _check(boxes, scores)
    boxes_cpu, scores_cpu = boxes.detach().to("cpu", torch.float64), scores.detach().cpu()
    candidates = _valid(boxes_cpu, scores_cpu, score_threshold).nonzero().squeeze(1)
    return _suppress(boxes_cpu, scores_cpu, candidates, threshold, pre, post, swap_dims).to(boxes.device)


def multi_class_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    thresholds: Sequence[float],
    pre: Limit | Sequence[int] = None,
    post: Limit | Sequence[int] = None,
    score_threshold: float | None = None,
    swap_dims: bool = False,
) -> Tensor:
    """Indices [K] int64 of the boxes kept, class after class, the best of a class first.

    `labels` [N] counts from 0 to C - 1; `thresholds` has one value per class, `pre` and `post` one for all or one each.

    With `swap_dims` the overlap is measured with dx and dy exchanged, as in the official evaluation of LION on Waymo
    (arXiv 2407.18232). Use it only to reproduce those figures.
    """
    _check(boxes, scores)
    if labels.shape != scores.shape:
        raise ConfigError(f"labels of shape {tuple(labels.shape)}, expected {tuple(scores.shape)}, as scores")
    limits = [_per_class(name, limit, len(thresholds)) for name, limit in (("pre", pre), ("post", post))]
    boxes_cpu, scores_cpu, labels_cpu = boxes.detach().to("cpu", torch.float64), scores.detach().cpu(), labels.cpu()
    valid = _valid(boxes_cpu, scores_cpu, score_threshold)
    kept = [torch.empty(0, dtype=torch.int64)]
    for label, (threshold, first, last) in enumerate(zip(thresholds, *limits, strict=True)):
        candidates = (valid & (labels_cpu == label)).nonzero().squeeze(1)
        kept.append(_suppress(boxes_cpu, scores_cpu, candidates, threshold, first, last, swap_dims))
    return torch.cat(kept).to(boxes.device)


def _suppress(
    boxes: Tensor, scores: Tensor, candidates: Tensor, threshold: float, pre: Limit, post: Limit, swap_dims: bool
) -> Tensor:
    """Indices into `boxes` of the candidates that are kept."""
    from visionseq.geometry import clipping

    order = candidates[scores[candidates].sort(descending=True, stable=True).indices][:pre]
    columns = [0, 1, 2, 4, 3, 5, 6] if swap_dims else list(range(7))
    rows = clipping.rectangles(boxes[order][:, columns].numpy())
    kept = np.empty(len(rows), dtype=np.int64)
    count = clipping.suppress(rows, float(threshold), len(rows) if post is None else min(post, len(rows)), kept)
    return order[torch.from_numpy(kept[:count])]


def _valid(boxes: Tensor, scores: Tensor, score_threshold: float | None) -> Tensor:
    """Mask [N] of the boxes that take part."""
    valid = boxes[:, [0, 1, 3, 4, 6]].isfinite().all(1) & ~scores.isnan()
    return valid if score_threshold is None else valid & (scores >= score_threshold)


def _check(boxes: Tensor, scores: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] < 7:
        raise ConfigError(f"boxes of shape {tuple(boxes.shape)}, expected [N, 7] or more columns")
    if scores.shape != boxes.shape[:1]:
        raise ConfigError(f"scores of shape {tuple(scores.shape)}, expected [{len(boxes)}], one per box")


def _per_class(name: str, limit: Limit | Sequence[int], classes: int) -> Sequence[Limit]:
    if limit is None or isinstance(limit, int):
        return [limit] * classes
    if len(limit) != classes:
        raise ConfigError(f"{name}: {len(limit)} values for {classes} thresholds, expected one per class")
    return limit
