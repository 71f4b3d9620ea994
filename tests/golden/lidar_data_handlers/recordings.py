"""Real frames of nuScenes and Argoverse 2: sweeps brought together, boxes, points in them."""

import json

import numpy as np
from golden_vector import GoldenVector

from lidar_data_handlers.samples import sample
from visionseq.data.lidar.argoverse2 import Argoverse2, boxes_of
from visionseq.data.lidar.nuscenes import sweep_points
from visionseq.data.point_files import read_points
from visionseq.data.voxels import voxel_indices
from visionseq.geometry import DATABASE, count_points

ON_A_FACE = 1  # points by which a count may differ


def sweeps(vector: GoldenVector) -> None:
    key = vector["in/ego2global_key"].numpy() @ vector["in/lidar2ego_key"].numpy()
    sweep = vector["in/ego2global_sweep"].numpy() @ vector["in/lidar2ego_sweep"].numpy()
    transform = np.linalg.inv(key) @ sweep
    vector.close("out/transform_matrix", transform, 1e-9)
    earlier = sweep_points(vector["in/sweep_raw"].numpy(), transform)
    vector.close("out/sweep_points", earlier, 1e-3)
    lag = vector["in/time_lag"].item()
    times = np.full((len(earlier), 1), lag)
    vector.close("out/sweep_times", times, 1e-9)
    keyframe = vector["in/keyframe_raw"].numpy()[:, :4]
    again = sweep_points(vector["in/keyframe_raw"].numpy(), np.eye(4))  # the start of a scene: itself, without a lag
    for name in vector.names("out/aggregated_seed"):
        parts = [(keyframe, 0.0)]
        for number in np.random.RandomState(int(name)).choice(2, 2, replace=False):
            parts.append([(earlier, lag), (again, 0.0)][number])
        together = [np.column_stack([points, np.full(len(points), time)]) for points, time in parts]
        vector.close(f"out/aggregated_seed{name}", np.concatenate(together), 1e-3)


def nuscenes_frame(vector: GoldenVector) -> None:
    folder = sample("nuscenes")
    (record,) = (json.loads(path.read_text()) for path in folder.glob("*.json"))
    boxes = np.array([[*item["box"], *item["velocity"]] for item in record["instances"]])
    vector.close("out/gt_boxes9", boxes, 1e-9)  # an unknown velocity is NaN
    vector.equal("out/label", [record["categories"].get(item["name"], -1) for item in record["instances"]])
    for key in ("num_lidar_pts", "num_radar_pts"):
        vector.equal(f"out/{key}", [item[key] for item in record["instances"]])
    (file,) = folder.glob("*.pcd.bin")
    points = read_points(file).values
    vector.equal("out/num_points", [len(points)])
    vector.equal("out/first_points", points[: len(vector["out/first_points"])])
    counts = count_points(points, boxes, DATABASE)
    assert np.abs(counts - vector.expected("out/points_in_boxes_cpu_count").numpy()).max() <= ON_A_FACE


def argo2_frame(vector: GoldenVector) -> None:
    config = vector.config
    frames = Argoverse2(str(sample("argo2")), "")
    frame = frames.frame(frames.frame_ids.index(f"{config['log']}_{config['timestamp_ns']}"))
    assert frame.names.tolist() == config["names"]
    vector.close("out/gt_boxes", frame.boxes, 1e-5)
    expected = vector["out/gt_boxes"].numpy()
    w, x, y, z = vector["in/quat_wxyz"].numpy().T
    table = dict(zip(("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m"), expected.T, strict=False))
    table |= {"qw": w, "qx": x, "qy": y, "qz": z, "category": np.array([name.upper() for name in config["names"]])}
    boxes, names = boxes_of(table)
    vector.close("out/gt_boxes", boxes, 1e-9)
    assert names.tolist() == config["names"]
    vector.equal("out/num_interior_pts", frame.num_points)
    vector.equal("out/first_points", frame.points[: len(vector["out/first_points"])])
    vector.close("out/point_mean", frame.points.mean(0, dtype=np.float64), 1e-4)
    counts = count_points(frame.points, expected, DATABASE)
    assert np.abs(counts - vector.expected("out/points_in_boxes_cpu_count").numpy()).max() <= ON_A_FACE
    point_range, size = [-200, -200, -4, 200, 200, 4], [0.4, 0.4, 0.25]
    valid, coords = voxel_indices(frame.points, size, point_range)
    vector.equal("out/num_points", [len(frame.points), int(valid.sum()), len(np.unique(coords, axis=0))])


HANDLERS = {"nuscenes_sweeps": sweeps, "nuscenes_frame": nuscenes_frame, "argo2_frame": argo2_frame}
