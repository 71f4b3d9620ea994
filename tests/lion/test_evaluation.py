"""The metrics of the trainer: what of a frame they pass on, and what they refuse."""

import numpy as np
import pytest
import torch

from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import Calibration
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation import Argoverse2Metric, KittiMetric, NuScenesMetric, OnceMetric, WaymoMetric
from visionseq.lion.global_boxes import to_global
from visionseq.metrics.detection.kitti import camera_annotations

AHEAD = Calibration(  # the camera looks along the lidar's x axis from the same place
    np.array([[700, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]]),
    np.eye(3),
    np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]),
)
METRICS = {
    KittiMetric: "Car", NuScenesMetric: "car", WaymoMetric: "Vehicle", OnceMetric: "Car", Argoverse2Metric: "Bus",
}  # fmt: skip


def found(boxes: np.ndarray, scores: np.ndarray | None = None) -> Detections:
    """Detections of the first class."""
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else scores
    labels = torch.ones(len(boxes), dtype=torch.int64)
    return Detections(torch.from_numpy(boxes), torch.from_numpy(scores), labels)


def cars(*places: tuple[float, float]) -> np.ndarray:
    boxes = np.tile([0.0, 0, -1, 4, 1.8, 1.5, 0.3], (len(places), 1))
    boxes[:, :2] = np.array(places).reshape(-1, 2)
    return boxes


def labelled(boxes: np.ndarray, **facts) -> LidarFrame:
    return LidarFrame("0", np.zeros((0, 4), np.float32), boxes, np.array(["Car"] * len(boxes)), **facts)


@pytest.mark.parametrize("metric", METRICS)
def test_frames_without_labels_are_named(metric):
    own = metric()
    own.begin([METRICS[metric]])
    frame = LidarFrame("000007", np.zeros((0, 4), np.float32))
    with pytest.raises(DataError, match="frame 000007: no labels; validate and test need them, predict needs none"):
        own.update([found(cars((8, 0)))], [frame])


def test_bicycles_in_racks_count_on_neither_side():
    boxes = np.zeros((2, 9))
    boxes[:, :2], boxes[:, 3:6] = [(5, 0), (15, 3)], (1.8, 0.6, 1.2)
    pose = np.eye(4)
    pose[:3, 3] = 1000, 500, 2
    frame = LidarFrame("0", np.zeros((0, 5), np.float32), boxes, np.array(["bicycle"] * 2))
    frame.origin = {"lidar_to_global": pose.tolist(), "ego_translation": [1000, 500, 2]}
    rack = np.array([[1015, 503, 2, 12, 3, 2, 0.0]])
    frame.annotations = {"attribute": np.array(["cycle.without_rider"] * 2), "bicycle_racks": rack}
    frame.annotations |= to_global(boxes, pose)
    elsewhere_in_the_rack = boxes[1] + np.array([4, 0, 0, 0, 0, 0, 0, 0, 0])
    metric = NuScenesMetric()
    metric.begin(["bicycle"])
    metric.update([found(np.stack([boxes[0], elsewhere_in_the_rack]), np.array([0.5, 0.9]))], [frame])
    assert metric.compute()["mAP"] == pytest.approx(1)


@pytest.mark.parametrize("annotated", [False, True])
def test_what_is_out_of_reach_counts_neither_with_a_camera_nor_without(annotated):
    near, far = cars((14, 0), (16, 5), (20, -5)), cars((31, 0), (35, 6))
    metric = KittiMetric(["{class}_3d/moderate_R40", "{class}_image/moderate_R40"], reach=24)
    metric.begin(["Car"])
    for _ in range(14):
        frame = labelled(np.concatenate([far, near]), calibration=AHEAD)
        if annotated:
            frame.annotations = camera_annotations(frame.boxes, frame.names, calibration=AHEAD)
            frame.boxes = frame.boxes[1:]  # readers leave out what has too few points; annotations are all
        metric.update([found(near)], [frame])
    assert list(metric.compute().values()) == pytest.approx([100, 100, 100])


def test_regions_of_no_interest_stay_whatever_the_reach():
    near, stranger = cars((14, 0), (16, 5), (20, -5)), cars((12, -6))
    metric = KittiMetric(["{class}_image/moderate_R40"], reach=24)
    metric.begin(["Car"])
    for _ in range(14):
        frame = labelled(near, calibration=AHEAD)
        true = camera_annotations(near, np.array(["Car"] * 3, dtype="U8"), calibration=AHEAD)
        region = camera_annotations(stranger, np.array(["DontCare"]), calibration=AHEAD)
        region |= {"location": np.full((1, 3), -1000.0), "dimensions": np.full((1, 3), -1.0)}
        frame.annotations = {name: np.concatenate([values, region[name]]) for name, values in true.items()}
        metric.update([found(np.concatenate([stranger, near]))], [frame])
    assert metric.compute()["mAP"] == pytest.approx(100)


def test_kitti_figures_are_zero_where_nothing_was_found():
    metric = KittiMetric(["{class}_aos/moderate_R40"])
    metric.begin(["Car"])
    metric.update([found(cars())], [labelled(cars((8, 0)))])
    assert metric.compute() == {"Car_aos/moderate_R40": 0, "mAP": 0}


def test_the_mean_is_of_the_first_figure_over_the_classes():
    metric = KittiMetric(["{class}_3d/easy_R40", "{class}_3d/easy_R11", "Car_bev/easy_R11"])
    metric.begin(["Car", "Pedestrian"])
    boxes = cars(*((8.0 * i, 0) for i in range(5)))
    metric.update([found(boxes)], [labelled(boxes)])
    figures = metric.compute()
    assert figures["Car_3d/easy_R40"] == pytest.approx(10)
    assert figures["Car_bev/easy_R11"] == pytest.approx(200 / 11)
    assert figures["mAP"] == pytest.approx(5)


def test_unknown_figures_are_refused_before_the_first_frame():
    metric = KittiMetric(["{class}_3d/moderate_R40", "{class}_3d/medium_R40"])
    with pytest.raises(ConfigError, match=r"figures: no 'Car_3d/medium_R40', expected .*Car_3d/moderate_R40"):
        metric.begin(["Car"])
    with pytest.raises(ConfigError, match="figures: empty, expected"):
        KittiMetric([])
