"""The arrays that nuScenes' tables are stored as, and the poses of sweeps in them."""

from pathlib import Path

import numpy as np

from visionseq.data.lidar.infos import Column, check_numbers
from visionseq.data.lidar.poses import pose_matrices

NONE = -1  # in a column of row numbers

LAYOUT = {
    "tables": Column("table", "i", (2,)),  # size and time of change, after the format's number
    "scene_name": Column("scene", "U"),
    "sample_token": Column("sample", "U"),  # keyframes by time
    "sample_scene": Column("sample", "i"),
    "sample_time": Column("sample", "i"),  # microseconds
    "sample_lidar": Column("sample", "i"),  # its row among the sweeps
    "sample_first": Column("sample", "i"),  # its first object
    "sample_objects": Column("sample", "i"),
    "lidar_file": Column("lidar", "S"),  # below the root
    "lidar_time": Column("lidar", "i"),  # microseconds
    "lidar_before": Column("lidar", "i"),  # the sweep before it in the scene
    "lidar_sensor": Column("lidar", "i"),
    "lidar_ego": Column("lidar", "f", (7,)),  # pose of the vehicle in the global frame
    "sensor_pose": Column("sensor", "f", (7,)),  # in the vehicle
    "box": Column("object", "f", (9,)),  # x, y, z, dx, dy, dz, heading, vx, vy in the keyframe's lidar frame
    "place": Column("object", "f", (10,)),  # x, y, z, rotation w, x, y, z, width, length, height in the global frame
    "velocity": Column("object", "f", (2,)),  # metres per second in the global frame, NaN where not known
    "object_category": Column("object", "i"),
    "object_attribute": Column("object", "i"),
    "lidar_points": Column("object", "i"),
    "radar_points": Column("object", "i"),
    "category_name": Column("category", "U"),
    "attribute_name": Column("attribute", "U"),
}

Index = dict[str, np.ndarray]


def sensor_to_global(index: Index, sweeps: np.ndarray) -> np.ndarray:
    """float64 [..., 4, 4]: from the lidar at the time of a sweep to the global frame."""
    sensors = index["sensor_pose"][index["lidar_sensor"][sweeps]]
    return pose_matrices(index["lidar_ego"][sweeps]) @ pose_matrices(sensors)


def check_index(path: Path, index: Index) -> Index:
    """The same index; `DataError` where it has a row number beyond the rows of the array that it refers to."""
    counts = {group: len(index[name]) for name, (group, _, _) in LAYOUT.items()}
    check_numbers(path, "sample_scene", index["sample_scene"], counts["scene"])
    check_numbers(path, "sample_lidar", index["sample_lidar"], counts["lidar"])
    check_numbers(path, "lidar_before", index["lidar_before"], counts["lidar"], NONE)
    check_numbers(path, "lidar_sensor", index["lidar_sensor"], counts["sensor"])
    check_numbers(path, "object_category", index["object_category"], counts["category"])
    check_numbers(path, "object_attribute", index["object_attribute"], counts["attribute"], NONE)
    ends = index["sample_first"] + index["sample_objects"]
    check_numbers(path, "sample_first", index["sample_first"], counts["object"] + 1)
    check_numbers(path, "ends of objects", ends, counts["object"] + 1)
    return index
