"""Training and evaluation of LION detectors (arXiv 2407.18232).

Evaluation runs frame by frame, whatever the batch size, so that a frame gives the same boxes to the bit in `validate`,
`test`, `predict` and `visionseq detect`, and losses depend neither on the batch size nor on the number of processes.
"""

import logging
from itertools import chain
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning import LightningModule
from torch import Tensor

from visionseq.data.lidar.batch import PointCloudBatch
from visionseq.data_check import check_resumed_classes, data_module_of
from visionseq.errors import DataError
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation import DetectionMetric
from visionseq.lion.model import LionDetector, points_of
from visionseq.lion.results import drawn_boxes, write_detections
from visionseq.lion.submissions import Submission, frame_file
from visionseq.optim.adam_onecycle import AdamOneCycle
from visionseq.viz import DrawnBoxes, bev_picture

PICTURE_FRAMES, PICTURE_SIDE = 4, 480
DRAWN = 0.3  # score of the faintest box in a picture

_log = logging.getLogger("visionseq.lion")


class LionTask(LightningModule):
    """A LION detector in training. The weights it begins with come from torch's generator, as those of every task.

    Args:
        detector: plain values of a `LionDetector`: point range, voxels, classes, vfe, backbones, head.
        optimizer: Adam with the one-cycle schedule of the paper.
        metric: what validation and test compute; None: the losses alone.
        submission: the benchmark's form in which `predict` writes all frames together, beside one JSON file for each.
    """

    def __init__(
        self,
        detector: dict[str, Any],
        optimizer: AdamOneCycle,
        metric: DetectionMetric | None = None,
        submission: Submission | None = None,
    ):
        super().__init__()
        self.model = LionDetector.from_config(detector)
        self.optimizer_config, self.metric = optimizer, metric
        self.submission = submission
        self.submitted: dict[Path, list[str]] = {}  # frames of this process, by folder
        self._frame_losses: list[dict[str, float]] = []  # of the running evaluation, in this process
        for part in (metric, submission):
            if part is not None:
                part.begin(self.model.class_names)

    def check_data(self, data: Any) -> None:
        """Compare classes, range and columns of a data module with the detector, and with those it was trained on.

        Raises `ConfigError` where they do not match, or where the data are no point clouds.
        """
        self.model.check_preprocessing(data.preprocessing, type(data).__name__)

    def setup(self, stage: str) -> None:
        data = data_module_of(self.trainer)
        if data is not None:
            self.check_data(data)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_resumed_classes(data_module_of(self.trainer), checkpoint)

    def training_step(self, batch: PointCloudBatch, batch_idx: int) -> dict[str, Tensor]:
        return self.model.losses(batch.points, batch.batch_size, _labels(batch))

    def validation_step(self, batch: PointCloudBatch, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: PointCloudBatch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def predict_step(self, batch: PointCloudBatch, batch_idx: int) -> list[Detections]:
        """Boxes of each frame of the batch, in its order."""
        return self.model.detect(batch.points, batch.batch_size)

    def write_predictions(self, folder: Path, prediction: list[Detections], batch: PointCloudBatch) -> None:
        """One JSON file for each frame, as `visionseq detect` writes it, and the frame's part of the submission."""
        for boxes, frame_id in zip(prediction, batch.frame_ids, strict=True):
            path = frame_file(folder, frame_id, ".json")
            write_detections(path, boxes, self.model.class_names, {"frame": frame_id})
        if self.submission is None:
            return
        for boxes, frame in zip(prediction, batch.frames, strict=True):
            self.submission.add(folder, boxes, frame)
            self.submitted.setdefault(folder, []).append(frame.frame_id)

    def on_predict_end(self) -> None:
        """Join what all processes wrote into the submission."""
        if self.submission is None:
            return
        frame_ids: dict[Path, set[str]] = {}
        for of_process in gathered(self.submitted):
            for folder, names in of_process.items():
                frame_ids.setdefault(folder, set()).update(names)
        self.submitted = {}
        if self.trainer.is_global_zero:
            for folder, names in frame_ids.items():
                _log.info("%s", self.submission.finish(folder, sorted(names)))

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> Any:
        return self.optimizer_config.build(self.model.parameters(), self.trainer.max_steps)

    @torch.no_grad()
    def sample_images(self) -> Tensor:
        """The first evaluation frames from above with detections in colours and ground truth in white: [N, 3, S, S]."""
        data = data_module_of(self.trainer)
        source = data.eval_source() or data.train_source()
        count = min(PICTURE_FRAMES, len(source))
        batch = source.fetch(np.stack([np.zeros(count, np.int64), np.arange(count)], 1))
        return torch.stack([self._picture(batch, row) for row in range(count)])

    def _picture(self, batch: PointCloudBatch, row: int) -> Tensor:
        points = points_of(batch.points, row)
        (detections,) = self.model.detect(points.to(self.device))
        names = tuple(self.model.class_names)
        drawn = [drawn_boxes(detections.above(DRAWN), names)]
        if batch.gt_boxes is not None:
            labels = batch.gt_boxes[row].cpu().numpy()
            labels = labels[labels[:, -1] > 0]
            drawn.append(DrawnBoxes(labels[:, :7], labels[:, -1].astype(np.int64) - 1, names))
        picture = bev_picture(points[:, 1:].cpu().numpy(), self.model.point_cloud_range, *drawn)
        picture = picture.resize((PICTURE_SIDE, PICTURE_SIDE))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    def _evaluate(self, batch: PointCloudBatch, stage: str) -> None:
        if self.metric is None:
            self._frame_losses += [self._losses_of(batch, row) for row in range(batch.batch_size)]
        else:
            self.metric.update(self.model.detect(batch.points, batch.batch_size), batch.frames)

    @torch.no_grad()
    def _losses_of(self, batch: PointCloudBatch, row: int) -> dict[str, float]:
        """The losses of one frame by itself: heads divide by the number of objects in what they see at once."""
        losses = self.model.losses(points_of(batch.points, row), 1, _labels(batch)[row : row + 1])
        return {name: value.item() for name, value in losses.items()}

    def _report(self, stage: str) -> None:
        """Log the metric, or the mean of each loss over the frames of all processes."""
        figures: dict[str, Any]
        if self.metric is None:
            frames: list[dict[str, float]] = list(chain.from_iterable(gathered(self._frame_losses)))
            figures = {name: fsum(losses[name] for losses in frames) / len(frames) for name in frames[0]}
            self._frame_losses = []
        else:
            figures = self.metric.compute()
            self.metric.reset()
        self.log_dict({f"{stage}/{name}": value for name, value in figures.items()})


def _labels(batch: PointCloudBatch) -> Tensor:
    """The boxes to learn; `DataError` where the data set has none."""
    if batch.gt_boxes is None:
        raise DataError(f"frame {batch.frame_ids[0]}: no labels; losses need them")
    return batch.gt_boxes


def gathered(value: Any) -> list[Any]:
    """The value of every process, in the order of their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
