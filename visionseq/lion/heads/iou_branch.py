"""The branch that predicts how well a box matches its object: its loss, and how it corrects the scores.

The branch learns 2 IoU - 1, from -1 to 1.

Legend: B samples, K slots, X values of a box.
"""

from collections.abc import Sequence

from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.geometry import iou3d


class IouRectifier:
    """Corrects scores by the predicted IoU: score^(1 - a) * iou^a, with a weight a for each class.

    Args:
        weights: one for all classes, or one for each; None: scores stay as they are.
        classes: of the detector.
        has_branch: whether the head predicts the IoU.

    `ConfigError` for weights without the branch, of another number than the classes, or outside [0, 1].
    """

    def __init__(self, weights: float | Sequence[float] | None, classes: int, has_branch: bool = True):
        if weights is None:
            self.weights = None
            return
        values = [float(weights)] if isinstance(weights, int | float) else [float(weight) for weight in weights]
        if not has_branch:
            raise ConfigError("dense_head: iou_rectifier needs the branch iou")
        if len(values) not in (1, classes) or not all(0 <= value <= 1 for value in values):
            raise ConfigError(f"dense_head: iou_rectifier {weights}, expected one value in [0, 1] for each class")
        self.weights = values * classes if len(values) == 1 else values

    def __call__(self, scores: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
        """Scores [...] of boxes with the branch's output [...] and labels [...] from 1, corrected."""
        if self.weights is None:
            return scores
        iou = ((predicted + 1) / 2).clamp(0, 1)
        weight = scores.new_tensor(self.weights)[labels - 1]
        return scores.pow(1 - weight) * iou.pow(weight)


def iou_loss(predicted_BK: Tensor, boxes_BKX: Tensor, source_BKX: Tensor, mask_BK: Tensor) -> Tensor:
    """Mean over the masked slots of |predicted - (2 IoU - 1)|, with the IoU of the predicted and the labelled boxes.

    Boxes get no gradient.
    """
    mask = mask_BK.bool()
    boxes, source = boxes_BKX.detach()[mask][:, :7], source_BKX[mask][:, :7].to(boxes_BKX.dtype)
    goal = 2 * iou3d(boxes, source, aligned=True) - 1
    return (predicted_BK[mask] - goal).abs().sum() / mask.sum().clamp(min=1)
