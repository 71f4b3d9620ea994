"""Small sets in the layout of each data set, made of two frames of the lidar world, and how to read them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionseq.data.lidar import Argoverse2, CustomFrames, Kitti, NuScenes, Once, Waymo, write_kitti
from visionseq.data.lidar.nuscenes_index import TABLES
from visionseq.data.lidar_world import LidarSensor, LidarWorld

WORLD = LidarWorld(2, seed=3, sensor=LidarSensor(beams=24, columns=360, range_noise=0.0))


def make_kitti(root: Path) -> Path:
    write_kitti(WORLD, root)
    (root / "training" / "planes").mkdir()
    for name in WORLD.frame_ids:
        plane = "# Plane\nWidth 4\nHeight 1\n0.0 2.0 0.0 -3.46\n"
        (root / "training" / "planes" / f"{name}.txt").write_text(plane)
    (root / "training" / "image_2").mkdir()
    for name in WORLD.frame_ids:
        Image.new("L", (1242, 375)).save(root / "training" / "image_2" / f"{name}.png")
    return root


def make_nuscenes(root: Path) -> Path:
    """One scene of two keyframes and a sweep between them; a car moves ahead by 2 m in half a second."""
    points = np.random.default_rng(0).normal(0, 20, (50, 5)).astype("<f4")
    points[:, :2] += np.sign(points[:, :2]) * 2  # none of the vehicle's own
    names = ("k0", "s0", "k1")
    rows: dict[str, list] = {name: [] for name in TABLES}
    rows["scene"] = [{"token": "scene", "name": "scene-0001"}]
    rows["category"] = [{"token": "car", "name": "vehicle.car"}, {"token": "dog", "name": "animal"}]
    rows["instance"] = [{"token": "i0", "category_token": "car"}, {"token": "i1", "category_token": "dog"}]
    rows["attribute"] = [{"token": "moving", "name": "vehicle.moving"}]
    rows["calibrated_sensor"] = [{"token": "lidar", "rotation": [1.0, 0, 0, 0], "translation": [1.0, 0, 2]}]
    for i, name in enumerate(names):
        time, shift = 1_000_000 + 250_000 * i, [float(i), 0.0, 0.0]
        rows["ego_pose"].append({"token": f"e{i}", "rotation": [1.0, 0, 0, 0], "translation": shift})
        folder = "samples" if name.startswith("k") else "sweeps"
        file = f"{folder}/LIDAR_TOP/{name}__LIDAR_TOP__{time}.pcd.bin"
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        points.tofile(root / file)
        rows["sample_data"].append({
            "token": name, "sample_token": "a" if i < 2 else "b", "ego_pose_token": f"e{i}", "filename": file,
            "calibrated_sensor_token": "lidar", "timestamp": time, "is_key_frame": name.startswith("k"),
            "prev": names[i - 1] if i else "",
        })  # fmt: skip
    for token, time in (("a", 1_000_000), ("b", 1_500_000)):
        rows["sample"].append({"token": token, "scene_token": "scene", "timestamp": time})
    for i, sample in enumerate("ab"):
        rows["sample_annotation"].append({
            "token": f"car{i}", "sample_token": sample, "instance_token": "i0", "size": [2.0, 4.0, 1.5],
            "translation": [11.0 + 2 * i, 3, 2.5], "rotation": [1.0, 0, 0, 0], "num_lidar_pts": 5, "num_radar_pts": 0,
            "attribute_tokens": ["moving"], "prev": "car0" if i else "", "next": "" if i else "car1",
        })  # fmt: skip
    animal = {**rows["sample_annotation"][0], "token": "dog0", "instance_token": "i1", "attribute_tokens": []}
    unseen = {**rows["sample_annotation"][0], "token": "far", "num_lidar_pts": 0, "num_radar_pts": 3}
    rows["sample_annotation"] += [{**animal, "prev": "", "next": ""}, unseen]
    (root / "v1.0-mini").mkdir()
    for name, table in rows.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(table))
    return root


def make_once(root: Path) -> Path:
    folder = root / "data" / "000076" / "lidar_roof"
    folder.mkdir(parents=True)
    frames = []
    for i in range(2):
        frame = WORLD.frame(i)
        frame.points.tofile(folder / f"{i}.bin")
        annotations = {"names": frame.names.tolist(), "boxes_3d": frame.boxes.tolist(), "boxes_2d": {}}
        frames.append({"frame_id": str(i), "pose": [0] * 7, "annos": annotations})
    frames.append({"frame_id": "9", "pose": [0] * 7})
    (folder.parent / "000076.json").write_text(json.dumps({"meta_info": {}, "calib": {}, "frames": frames}))
    return root


def make_waymo(root: Path) -> Path:
    folder = root / "segment-1"
    folder.mkdir(parents=True)
    labels: dict[str, list] = {name: [] for name in ("frame", "boxes", "names", "num_points", "difficulty")}
    for i in range(2):
        frame = WORLD.frame(i)
        extra = np.zeros((len(frame.points), 2), np.float32) - 1
        np.save(folder / f"{i:04d}.npy", np.concatenate([frame.points, extra], 1))
        boxes = np.concatenate([frame.boxes, np.zeros((len(frame.boxes), 2))], 1)
        labels["boxes"] += boxes.tolist()
        labels["names"] += ["Vehicle" if name == "Car" else name for name in frame.names]
        labels["frame"] += [i] * len(boxes)
        labels["num_points"] += frame.num_points.tolist()
        labels["difficulty"] += [0] * len(boxes)
    np.savez(folder / "labels.npz", **{name: np.array(values) for name, values in labels.items()})
    facts = {"frame": np.arange(2), "timestamp": np.array([7, 8]), "pose": np.stack([np.eye(4)] * 2)}
    np.savez(folder / "frames.npz", **facts, context=np.array(["1234_5"]))
    return root


def make_custom(root: Path) -> Path:
    for folder in ("points", "labels", "ImageSets"):
        (root / folder).mkdir(parents=True)
    for i, name in enumerate(WORLD.frame_ids):
        frame = WORLD.frame(i)
        frame.points.tofile(root / "points" / f"{name}.bin")
        lines = (f"{' '.join(map(str, box))} {label}\n" for box, label in zip(frame.boxes, frame.names, strict=True))
        (root / "labels" / f"{name}.txt").write_text("".join(lines))
    (root / "ImageSets" / "train.txt").write_text("\n".join(WORLD.frame_ids))
    return root


def make_argoverse2(root: Path) -> Path:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import feather

    folder = root / "log" / "sensors" / "lidar"
    folder.mkdir(parents=True)
    rows: dict[str, list] = {}
    for i in range(2):
        frame = WORLD.frame(i)
        columns = {n: frame.points[:, j].astype(np.float16) for j, n in enumerate(("x", "y", "z"))}
        columns["intensity"] = (frame.points[:, 3] * 255).astype(np.uint8)
        feather.write_feather(pyarrow.table(columns), folder / f"{i + 1}.feather")
        x, y, z, dx, dy, dz, heading = frame.boxes.astype(np.float64).T
        values = {
            "timestamp_ns": np.full(len(x), i + 1), "category": ["BUS"] * len(x), "length_m": dx, "width_m": dy,
            "height_m": dz, "qw": np.cos(heading / 2), "qx": x * 0, "qy": x * 0, "qz": np.sin(heading / 2), "tx_m": x,
            "ty_m": y, "tz_m": z, "num_interior_pts": frame.num_points,
        }  # fmt: skip
        for name, column in values.items():
            rows.setdefault(name, []).extend(column)
    feather.write_feather(pyarrow.table(rows), root / "log" / "annotations.feather")
    return root


KINDS = {
    "kitti": (make_kitti, lambda root: Kitti(str(root), "train", fov_points_only=False)),
    "once": (make_once, lambda root: Once(str(root))),
    "waymo": (make_waymo, lambda root: Waymo(str(root))),
    "custom": (make_custom, lambda root: CustomFrames(str(root), ["Car", "Pedestrian", "Cyclist"], "train")),
    "argoverse2": (make_argoverse2, lambda root: Argoverse2(str(root), "")),
    "nuscenes": (make_nuscenes, lambda root: NuScenes(str(root), "v1.0-mini", sweeps=3)),
}
