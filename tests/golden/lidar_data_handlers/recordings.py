"""Real frames of nuScenes and Argoverse 2: sweeps brought together, boxes, points in them."""

import json

import numpy as np
import torch
from golden_vector import ReadVector, close

from lidar_data_handlers.samples import sample
from visionseq.data.lidar.argoverse2 import Argoverse2, boxes_of
from visionseq.data.lidar.nuscenes import sweep_points
from visionseq.data.point_files import read_points
from visionseq.data.voxels import voxel_indices
from visionseq.geometry import DATABASE, count_points

ON_A_FACE = 1  # points by which a count may differ


def sweeps(vector: ReadVector) -> None:
    key = vector["in/ego2global_key"].numpy() @ vector["in/lidar2ego_key"].numpy()
    sweep = vector["in/ego2global_sweep"].numpy() @ vector["in/lidar2ego_sweep"].numpy()
    transform = np.linalg.inv(key) @ sweep
    close(torch.from_numpy(transform), vector["out/transform_matrix"], 1e-9)
    earlier = sweep_points(vector["in/sweep_raw"].numpy(), transform)
    close(torch.from_numpy(earlier), vector["out/sweep_points"], 1e-3)
    lag = vector["in/time_lag"].item()
    times = np.full((len(earlier), 1), lag)
    close(torch.from_numpy(times), vector["out/sweep_times"], 1e-9)
    keyframe = vector["in/keyframe_raw"].numpy()[:, :4]
    again = sweep_points(vector["in/keyframe_raw"].numpy(), np.eye(4))  # the start of a scene: itself, without a lag
    parts = [(keyframe, 0.0)]
    for number in np.random.RandomState(3).choice(2, 2, replace=False):
        parts.append([(earlier, lag), (again, 0.0)][number])
    found = np.concatenate([np.column_stack([points, np.full(len(points), time)]) for points, time in parts])
    close(torch.from_numpy(found), vector["out/aggregated_seed3"], 1e-3)


def nuscenes_frame(vector: ReadVector) -> None:
    folder = sample("nuscenes")
    (record,) = (json.loads(path.read_text()) for path in folder.glob("*.json"))
    boxes = np.array([[*item["box"], *item["velocity"]] for item in record["instances"]])
    expected = vector["out/gt_boxes9"].numpy()
    assert np.array_equal(np.isnan(boxes), np.isnan(expected))  # a velocity that nobody knows
    close(torch.from_numpy(np.nan_to_num(boxes)), torch.from_numpy(np.nan_to_num(expected)), 1e-9)
    labels = [record["categories"].get(item["name"], -1) for item in record["instances"]]
    assert labels == vector["out/label"].tolist()
    for key in ("num_lidar_pts", "num_radar_pts"):
        assert [item[key] for item in record["instances"]] == vector[f"out/{key}"].tolist()
    (file,) = folder.glob("*.pcd.bin")
    points = read_points(file).values
    assert len(points) == vector["out/num_points"].item()
    close(torch.from_numpy(points[:10]), vector["out/first_points"], 0)
    counts = count_points(points, boxes, DATABASE)
    assert np.abs(counts - vector["out/points_in_boxes_cpu_count"].numpy()).max() <= ON_A_FACE


def argo2_frame(vector: ReadVector) -> None:
    config = vector.config
    frames = Argoverse2(str(sample("argo2")), "")
    frame = frames.frame(frames.frame_ids.index(f"{config['log']}_{config['timestamp_ns']}"))
    assert frame.names.tolist() == config["names"]
    expected = vector["out/gt_boxes"]
    close(torch.from_numpy(frame.boxes), expected, 1e-5)
    w, x, y, z = vector["in/quat_wxyz"].numpy().T
    sizes = expected.numpy()
    table = dict(zip(("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m"), sizes.T, strict=False))
    table |= {"qw": w, "qx": x, "qy": y, "qz": z, "category": np.array([name.upper() for name in config["names"]])}
    boxes, names = boxes_of(table)
    close(torch.from_numpy(boxes), expected, 1e-9)
    assert names.tolist() == config["names"]
    assert frame.num_points.tolist() == vector["out/num_interior_pts"].tolist()
    close(torch.from_numpy(frame.points[:20]), vector["out/first_points"], 0)
    close(torch.from_numpy(frame.points.mean(0, dtype=np.float64)), vector["out/point_mean"], 1e-4)
    counts = count_points(frame.points, expected.numpy(), DATABASE)
    assert np.abs(counts - vector["out/points_in_boxes_cpu_count"].numpy()).max() <= ON_A_FACE
    point_range, size = [-200, -200, -4, 200, 200, 4], [0.4, 0.4, 0.25]
    valid, coords = voxel_indices(frame.points, size, point_range)
    found = [len(frame.points), int(valid.sum()), len(np.unique(coords, axis=0))]
    assert found == vector["out/num_points"].tolist()


HANDLERS = {"nuscenes_sweeps": sweeps, "nuscenes_frame": nuscenes_frame, "argo2_frame": argo2_frame}
