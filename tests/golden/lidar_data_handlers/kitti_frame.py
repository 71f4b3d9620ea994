"""Real KITTI frames: calibration, projection, field of view, boxes of the label file and the points in them.

Without the recording only what the vector itself holds the input for is compared, and the rest is skipped.
"""

from pathlib import Path

import numpy as np
from golden_vector import GoldenVector
from PIL import Image

from lidar_data_handlers.boxes import compare
from lidar_data_handlers.samples import sample
from visionseq import geometry
from visionseq.data.lidar.kitti_labels import read_labels

METRES, RELATIVE_PIXELS, NEAR_PIXELS = 1e-4, 1e-5, 1e-3
POINT_RANGE = [0, -40, -3, 70.4, 40, 1]
ON_A_FACE = 1  # points by which a count may differ
EXACT = 0.0


def check_kitti_frame(vector: GoldenVector) -> None:
    calibration = geometry.Calibration(*(vector[f"out/{name}"].numpy() for name in ("P2", "R0", "V2C")))
    _check_projection(vector, calibration)
    frame = vector.config["frame"]
    folder = sample("kitti/training")
    read = geometry.Calibration.from_file(folder / "calib" / f"{frame}.txt")
    for name in ("P2", "R0", "V2C"):
        compare(vector, name, getattr(read, name), EXACT)
    image_shape = _image_shape(vector, folder / "image_2" / f"{frame}.png")
    points = np.fromfile(folder / "velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)
    label = _read_label(folder / "label_2" / f"{frame}.txt", vector.config["names"])
    for name, values in label.items():
        compare(vector, name, values, EXACT)
    in_view = _check_view(vector, calibration, points, image_shape)
    _check_boxes(vector, calibration, label, points, in_view, image_shape)


def _check_projection(vector: GoldenVector, calibration: geometry.Calibration) -> None:
    points = vector["in/points_every_101"].numpy()
    rect = calibration.lidar_to_rect(points)
    pixels, depth = calibration.lidar_to_image(points)
    compare(vector, "rect", rect, METRES)
    compare(vector, "back_to_lidar", calibration.rect_to_lidar(rect), METRES)
    compare(vector, "depth", depth, METRES)
    expected = vector.expected("out/img").numpy()
    error = np.abs(pixels - expected) / np.maximum(np.abs(expected), 1)
    assert (error.max(1) <= np.where(np.abs(depth) < 1, NEAR_PIXELS, RELATIVE_PIXELS)).all()
    back = calibration.image_to_rect(expected, vector["out/depth"].numpy())
    assert np.allclose(back, vector.expected("out/img_to_rect").numpy(), rtol=RELATIVE_PIXELS, atol=METRES)


def _check_view(
    vector: GoldenVector, calibration: geometry.Calibration, points: np.ndarray, image_shape: tuple[int, int]
) -> np.ndarray:
    """The points in view, whose flags and counts are compared."""
    mask = calibration.in_view(points, image_shape)
    compare(vector, "fov_packed", np.packbits(mask), EXACT)
    in_view = points[mask]
    in_range = [geometry.points_in_range(in_view, POINT_RANGE, with_z).sum() for with_z in (False, True)]
    compare(vector, "num_points", np.array([len(points), len(in_view), *in_range]), EXACT)
    compare(vector, "point_mean_fov", in_view.mean(0, dtype=np.float64), METRES)
    return in_view


def _image_shape(vector: GoldenVector, picture: Path) -> tuple[int, int]:
    """(height, width) of the camera picture."""
    with Image.open(picture) as image:
        shape = image.height, image.width
    compare(vector, "image_shape", np.array(shape), EXACT)
    return shape


def _check_boxes(
    vector: GoldenVector,
    calibration: geometry.Calibration,
    label: dict[str, np.ndarray],
    points: np.ndarray,
    in_view: np.ndarray,
    image_shape: tuple[int, int],
) -> None:
    objects = label["index"] >= 0
    camera = np.column_stack([label["location"], label["dimensions_lhw"], label["rotation_y"]])[objects]
    boxes = geometry.camera_to_lidar(camera, calibration)
    compare(vector, "gt_boxes_lidar_info", boxes, METRES)
    loaded = geometry.camera_to_lidar(camera.astype(np.float32), calibration)
    compare(vector, "gt_boxes_lidar_loader_f32", loaded, METRES)
    enclosing = geometry.image_boxes(camera, calibration, image_shape)
    expected = vector.expected("out/image_boxes_from_3d").numpy()
    assert np.allclose(enclosing, expected, rtol=RELATIVE_PIXELS, atol=METRES)
    counts = np.full(len(objects), -1)
    counts[objects] = geometry.count_points(in_view, boxes, geometry.HULL)
    cut = geometry.count_points(points, boxes, geometry.DATABASE)
    for name, count in (("num_points_in_gt", counts), ("points_in_boxes_cpu_count", cut)):
        assert np.abs(count - vector.expected(f"out/{name}").numpy()).max(initial=0) <= ON_A_FACE, name


def _read_label(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The columns of a label file as the vector calls them; objects come before what is DontCare."""
    labels = read_labels(path)
    assert labels["name"].tolist() == names
    same = ("truncated", "occluded", "alpha", "rotation_y", "difficulty")
    objects = labels["name"] != "DontCare"
    return {
        **{name: labels[name] for name in same},
        "bbox": labels["bbox"].astype(np.float32),
        "dimensions_lhw": labels["dimensions"],
        "location": labels["location"].astype(np.float32),
        "index": np.where(objects, np.arange(len(objects)), -1),
    }


HANDLERS = {"kitti_frame": check_kitti_frame}
