"""A detector small enough for tests, and scenes for it."""

import numpy as np
import torch

from visionseq.data.lidar.preparation import PointPreparation
from visionseq.lion import LionDetector

RANGE = [-6.4, -6.4, -2.0, 6.4, 6.4, 2.0]
NAMES = ["Car", "Pedestrian", "Cyclist"]


def tiny_config(**changes) -> dict:
    values = {
        "class_names": NAMES,
        "point_cloud_range": RANGE,
        "voxel_size": [0.8, 0.8, 0.125],
        "point_features": 4,
        "vfe": {"type": "DynamicVoxelVFE", "num_filters": [8, 8]},
        "backbone_3d": {
            "type": "LION3DBackboneOneStride",
            "feature_dim": 8,
            "group_size": [64, 32, 32, 16],
            "operator": {"name": "Mamba", "d_state": 4},
        },
        "backbone_2d": {
            "type": "BaseBEVBackbone",
            "layer_nums": [1],
            "layer_strides": [1],
            "num_filters": [8],
            "upsample_strides": [1],
            "num_upsample_filters": [8],
        },
        "dense_head": {"type": "CenterHead", "shared_conv_channel": 8, "score_thresh": 0.0, "max_obj_per_sample": 30},
    }
    return {**values, **changes}


def tiny_detector() -> LionDetector:
    torch.manual_seed(0)
    model = LionDetector.from_config(tiny_config()).eval()
    preparation = PointPreparation(["x", "y", "z", "intensity"], RANGE, NAMES)
    model.preprocessing = preparation.preprocessing
    return model


def cloud(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([random.uniform(-6, 6, (count, 2)), random.uniform(-2, 2, (count, 2))], 1).astype(np.float32)


def batch_of(*clouds: np.ndarray) -> torch.Tensor:
    parts = [np.column_stack([np.full(len(points), i, np.float32), points]) for i, points in enumerate(clouds)]
    return torch.from_numpy(np.concatenate(parts))
