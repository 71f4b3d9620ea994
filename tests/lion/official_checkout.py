"""Configuration files in the form of an official checkout: tools/cfgs/dataset_configs/ and a folder for each data set.

Values are those of the specification sheet. As there, a model file names the data's base file by `_BASE_CONFIG_` and
replaces some of its values.
"""

from pathlib import Path
from typing import Any

import yaml

WAYMO, KITTI = ["Vehicle", "Pedestrian", "Cyclist"], ["Car", "Pedestrian", "Cyclist"]
ONCE = ["Car", "Bus", "Truck", "Pedestrian", "Cyclist"]
NUSCENES = ["car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle", "pedestrian",
            "traffic_cone"]  # fmt: skip
ARGOVERSE = [
    ["Regular_vehicle"],
    ["Pedestrian", "Bicyclist", "Motorcyclist", "Wheeled_rider"],
    ["Bollard", "Construction_cone", "Sign", "Construction_barrel", "Stop_sign", "Mobile_pedestrian_crossing_sign"],
    ["Large_vehicle", "Bus", "Box_truck", "Truck", "Vehicular_trailer", "Truck_cab", "School_bus", "Articulated_bus",
     "Message_board_trailer"],
    ["Bicycle", "Motorcycle", "Wheeled_device", "Wheelchair", "Stroller"],
    ["Dog"],
]  # fmt: skip
DATA = {  # classes, point range, voxel size, columns, drop path
    "waymo": (WAYMO, [-75.52, -75.52, -2, 75.52, 75.52, 4], [0.32, 0.32, 0.1875], ["intensity", "elongation"]),
    "nusc": (NUSCENES, [-54.0, -54.0, -5.0, 54.0, 54.0, 3.0], [0.3, 0.3, 0.25], ["intensity", "timestamp"]),
    "argo": (
        [name for group in ARGOVERSE for name in group],
        [-200, -200, -4, 200, 200, 4],
        [0.4, 0.4, 0.25],
        ["intensity"],
    ),
    "once": (ONCE, [-75.2, -75.2, -5.0, 75.2, 75.2, 3.0], [0.4, 0.4, 0.25], ["intensity"]),
    "kitti": (KITTI, [0, -40, -3, 70.4, 40, 1], [0.2, 0.2, 0.125], ["intensity"]),
}
NAMES = [
    *(f"lion_{name}_waymo_8x_1f_1x_one_stride_64dim" for name in ("mamba", "retnet", "rwkv")),
    "lion_mamba_waymo_8x_1f_1x_one_stride_128dim",
    *(f"lion_{name}_nusc_8x_1f_1x_one_stride_128dim" for name in ("mamba", "retnet", "rwkv")),
    "lion_mamba_nusc_8x_1f_1x_one_stride_128dim_ep48",
    *(f"lion_{name}_1f_1x_argo_128dim_sparse_v2" for name in ("mamba", "retnet", "rwkv")),
    *(f"centerpoint_with_lion_with_128dim_{name}" for name in ("mamba", "retnet", "rwkv")),
    *(f"second_with_lion_{name}_64dim" for name in ("mamba", "retnet", "rwkv", "xLSTM", "TTT")),
]


def make_checkout(root: Path) -> dict[str, Path]:
    """The files below `root`; the model files by their names without ending."""
    folder = root / "tools" / "cfgs"
    for data, (_, _, _, columns) in DATA.items():
        _write(folder / "dataset_configs" / f"{data}_dataset.yaml", _base(data, columns))
    paths = {}
    for name in NAMES:
        data = _data_of(name)
        paths[name] = folder / f"{data}_models" / f"{name}.yaml"
        _write(paths[name], _model_file(name, data))
    return paths


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
    path.write_text(text.replace("1.0e-05", "1e-5"))  # as people write it, and YAML 1.1 reads as text


def _data_of(name: str) -> str:
    if name.startswith("lion_"):
        return next(data for data in ("waymo", "nusc", "argo") if f"_{data}_" in name)
    return "once" if name.startswith("centerpoint") else "kitti"


def _base(data: str, columns: list[str]) -> dict[str, Any]:
    """The data's base file, with another range and other voxels than the models have."""
    used = ["x", "y", "z", *columns]
    return {
        "DATASET": f"{data.capitalize()}Dataset",
        "DATA_PATH": f"../data/{data}",
        "POINT_CLOUD_RANGE": [-10, -10, -2, 10, 10, 2],
        "DATA_SPLIT": {"train": "train", "test": "val"},
        "DATA_AUGMENTOR": {"DISABLE_AUG_LIST": ["placeholder"], "AUG_CONFIG_LIST": [{"NAME": "random_world_flip"}]},
        "POINT_FEATURE_ENCODING": {
            "encoding_type": "absolute_coordinates_encoding",
            "used_feature_list": used,
            "src_feature_list": used,
        },
        "DATA_PROCESSOR": _processors([0.1, 0.1, 0.15]),
    }


def _processors(voxel: list[float]) -> list[dict[str, Any]]:
    return [
        {"NAME": "mask_points_and_boxes_outside_range", "REMOVE_OUTSIDE_BOXES": True},
        {"NAME": "shuffle_points", "SHUFFLE_ENABLED": {"train": True, "test": True}},
        {"NAME": "transform_points_to_voxels_placeholder", "VOXEL_SIZE": voxel},
    ]


def _model_file(name: str, data: str) -> dict[str, Any]:
    classes, place, voxel, _ = DATA[data]
    width = 64 if "64dim" in name else 128
    return {
        "CLASS_NAMES": classes,
        "DATA_CONFIG": {
            "_BASE_CONFIG_": f"cfgs/dataset_configs/{data}_dataset.yaml",
            "POINT_CLOUD_RANGE": place,
            "DATA_SPLIT": {"test": "test"},
            "DATA_PROCESSOR": _processors(voxel),
        },
        "MODEL": _model(name, data, width),
        "OPTIMIZATION": {"BATCH_SIZE_PER_GPU": 2, "NUM_EPOCHS": 12, "OPTIMIZER": "adam_onecycle", "LR": 0.003},
    }


def _model(name: str, data: str, width: int) -> dict[str, Any]:
    detectors = {"nusc": "TransFusion", "kitti": "SECONDNet"}
    bev = _bev(data)
    sparse = {"NAME": "LION3DBackboneOneStride_Sparse"} if data == "argo" else {"NAME": "LION3DBackboneOneStride"}
    model = {
        "NAME": detectors.get(data, "CenterPoint"),
        "VFE": {"NAME": "DynamicVoxelVFE", "WITH_DISTANCE": False, "USE_ABSLOTE_XYZ": True, "USE_NORM": True,
                "NUM_FILTERS": [width, width]},
        "BACKBONE_3D": {**sparse, **_backbone(name, data, width)},
        "DENSE_HEAD": {"waymo": _waymo_head, "nusc": _nuscenes_head, "argo": _argoverse_head, "once": _once_head,
                       "kitti": _kitti_head}[data](),
        "POST_PROCESSING": {"RECALL_THRESH_LIST": [0.3, 0.5, 0.7], "EVAL_METRIC": data},
    }  # fmt: skip
    if data == "kitti":
        model["POST_PROCESSING"] |= {"SCORE_THRESH": 0.1, "OUTPUT_RAW_SCORE": False, "NMS_CONFIG": {
            "MULTI_CLASSES_NMS": False, "NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.01, "NMS_PRE_MAXSIZE": 4096,
            "NMS_POST_MAXSIZE": 500}}  # fmt: skip
    if bev:
        model["MAP_TO_BEV"] = {"NAME": "HeightCompression", "NUM_BEV_FEATURES": 2 * width}
        model["BACKBONE_2D"] = bev
    return model


def _backbone(name: str, data: str, width: int) -> dict[str, Any]:
    scales = [[[2, 2, 2], [2, 2, 2]]] * 4
    drop_path = 0.0 if data == "waymo" and width == 64 else 0.2
    kind = next(kind for kind in ("mamba", "retnet", "rwkv", "xLSTM", "TTT") if kind in name)
    operator = {
        "mamba": ("Mamba", {"d_state": 16, "d_conv": 4, "expand": 2, "drop_path": drop_path}),
        "retnet": ("RetNet", {"mode": "chunk", "n_head": 2 if width == 64 else 4, "expand_k": 1, "expand_v": 2,
                              "hidden_rate": 4, "used_MLP": True, "drop_path": drop_path}),
        "rwkv": ("RWKV", {"n_head": 4, "shift_mode": "time_shift", "shift_pixel": 1, "hidden_rate": 4,
                          "init_mode": "fancy", "init_values": 1e-5, "drop_path": drop_path}),
        "xLSTM": ("xLSTM", {"d_model": width, "drop_path": drop_path}),
        "TTT": ("TTT", {"d_model": width, "n_head": 4, "use_gate": False, "drop_path": drop_path}),
    }[kind]  # fmt: skip
    return {
        "FEATURE_DIM": width, "NUM_LAYERS": 4, "DEPTHS": [2, 2, 2, 2], "LAYER_DOWN_SCALES": scales,
        "WINDOW_SHAPE": [[13, 13, 32], [13, 13, 16], [13, 13, 8], [13, 13, 4]], "GROUP_SIZE": [4096, 2048, 1024, 512],
        "DIRECTION": ["x", "y"], "LAYER_DIM": [width] * 4, "DIFFUSION": True, "SHIFT": True, "DIFF_SCALE": 0.2,
        "OPERATOR": {"NAME": operator[0], "CFG": operator[1]},
    }  # fmt: skip


def _bev(data: str) -> dict[str, Any] | None:
    if data == "argo":
        return None
    if data in ("waymo", "nusc"):
        strides = [1, 2, 4] if data == "waymo" else [0.5, 1, 2]
        return {"NAME": "BaseBEVResBackbone", "LAYER_NUMS": [1, 2, 2], "LAYER_STRIDES": [1, 2, 2],
                "NUM_FILTERS": [128, 128, 256], "UPSAMPLE_STRIDES": strides,
                "NUM_UPSAMPLE_FILTERS": [128, 128, 128]}  # fmt: skip
    return {"NAME": "BaseBEVBackbone", "LAYER_NUMS": [5, 5], "LAYER_STRIDES": [1, 2], "NUM_FILTERS": [128, 256],
            "UPSAMPLE_STRIDES": [1, 2], "NUM_UPSAMPLE_FILTERS": [256, 256]}  # fmt: skip


def _branches(*names: str) -> dict[str, Any]:
    channels = {"center": 2, "center_z": 1, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1}
    order = [name for name in names if name != "iou"]
    return {"HEAD_ORDER": order, "HEAD_DICT": {n: {"out_channels": channels[n], "num_conv": 2} for n in names}}


def _center_head(
    groups: list[list[str]], branches: dict[str, Any], loc: float, weights: list[float], post: dict
) -> dict:
    return {
        "CLASS_AGNOSTIC": False, "CLASS_NAMES_EACH_HEAD": groups, "NUM_HM_CONV": 2, "SEPARATE_HEAD_CFG": branches,
        "TARGET_ASSIGNER_CONFIG": {"FEATURE_MAP_STRIDE": 1, "NUM_MAX_OBJS": 500, "GAUSSIAN_OVERLAP": 0.1,
                                   "MIN_RADIUS": 2},
        "LOSS_CONFIG": {"LOSS_WEIGHTS": {"cls_weight": 1.0, "loc_weight": loc, "code_weights": weights}},
        "POST_PROCESSING": {"SCORE_THRESH": 0.1, "MAX_OBJ_PER_SAMPLE": 500, **post},
    }  # fmt: skip


def _waymo_head() -> dict[str, Any]:
    post = {
        "POST_CENTER_LIMIT_RANGE": [-80, -80, -10.0, 80, 80, 10.0], "USE_IOU_TO_RECTIFY_SCORE": True,
        "IOU_RECTIFIER": [0.68, 0.71, 0.65],
        "NMS_CONFIG": {"NMS_TYPE": "multi_class_nms", "NMS_THRESH": [0.75, 0.6, 0.55],
                       "NMS_PRE_MAXSIZE": [4096, 4096, 4096], "NMS_POST_MAXSIZE": [500, 500, 500]},
    }  # fmt: skip
    head = _center_head([WAYMO], _branches("center", "center_z", "dim", "rot", "iou"), 2.0, [1.0] * 8, post)
    return {"NAME": "CenterHead", "SHARED_CONV_CHANNEL": 64, "USE_BIAS_BEFORE_NORM": False, "BN_EPS": 0.001,
            "BN_MOM": 0.01, "IOU_REG_LOSS": False, **head}  # fmt: skip


def _once_head() -> dict[str, Any]:
    post = {"POST_CENTER_LIMIT_RANGE": [-75.2, -75.2, -5.0, 75.2, 75.2, 3.0], "NMS_CONFIG": {
        "MULTI_CLASSES_NMS": False, "NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.01, "NMS_PRE_MAXSIZE": 4096,
        "NMS_POST_MAXSIZE": 500}}  # fmt: skip
    head = _center_head([ONCE], _branches("center", "center_z", "dim", "rot"), 1.0, [1.0] * 8, post)
    return {"NAME": "CenterHead", "SHARED_CONV_CHANNEL": 64, "USE_BIAS_BEFORE_NORM": True, **head}


def _argoverse_head() -> dict[str, Any]:
    post = {"POST_CENTER_LIMIT_RANGE": [-200, -200, -20, 200, 200, 20], "NMS_CONFIG": {
        "NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.2, "NMS_PRE_MAXSIZE": 1000, "NMS_POST_MAXSIZE": 83}}  # fmt: skip
    weights = [1.0] * 6 + [0.2, 0.2]
    head = _center_head(ARGOVERSE, _branches("center", "center_z", "dim", "rot"), 0.25, weights, post)
    return {"NAME": "SparseCenterHead", "INPUT_FEATURES": 128, "HEAD_CONV_TYPE": "subm", "USE_BIAS_BEFORE_NORM": False,
            "BN_EPS": 0.001, "BN_MOM": 0.01, **head}  # fmt: skip


def _nuscenes_head() -> dict[str, Any]:
    costs = {"cls_cost": {"gamma": 2.0, "alpha": 0.25, "weight": 0.15}, "reg_cost": {"weight": 0.25},
             "iou_cost": {"weight": 0.25}}  # fmt: skip
    weights = {"cls_weight": 1.0, "bbox_weight": 0.25, "hm_weight": 1.0, "loss_iou_rescore_weight": 0.5,
               "code_weights": [1.0] * 8 + [0.2, 0.2]}  # fmt: skip
    return {
        "NAME": "TransFusionHead", "CLASS_AGNOSTIC": False, "USE_BIAS_BEFORE_NORM": False, "NUM_PROPOSALS": 200,
        "HIDDEN_CHANNEL": 128, "NUM_CLASSES": 10, "NUM_HEADS": 8, "NMS_KERNEL_SIZE": 3, "FFN_CHANNEL": 256,
        "DROPOUT": 0, "BN_MOMENTUM": 0.1, "ACTIVATION": "relu", "NUM_HM_CONV": 2,
        "SEPARATE_HEAD_CFG": _branches("center", "height", "dim", "rot", "vel", "iou"),
        "TARGET_ASSIGNER_CONFIG": {"FEATURE_MAP_STRIDE": 2, "DATASET": "nuScenes", "GAUSSIAN_OVERLAP": 0.1,
                                   "MIN_RADIUS": 2, "HUNGARIAN_ASSIGNER": costs},
        "LOSS_CONFIG": {"LOSS_WEIGHTS": weights, "LOSS_CLS": {"use_sigmoid": True, "gamma": 2.0, "alpha": 0.25}},
        "POST_PROCESSING": {"SCORE_THRESH": 0.0, "POST_CENTER_RANGE": [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
                            "USE_IOU_TO_RECTIFY_SCORE": True, "IOU_RECTIFIER": [0.5],
                            "NMS_CONFIG": {"NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.2, "NMS_PRE_MAXSIZE": 1000,
                                           "NMS_POST_MAXSIZE": 100, "SCORE_THRES": 0.0}},
    }  # fmt: skip


def _kitti_head() -> dict[str, Any]:
    sizes = {"Car": ([3.9, 1.6, 1.56], -1.78, 0.6, 0.45), "Pedestrian": ([0.8, 0.6, 1.73], -0.6, 0.5, 0.35),
             "Cyclist": ([1.76, 0.6, 1.73], -0.6, 0.5, 0.35)}  # fmt: skip
    anchors = [
        {"class_name": name, "anchor_sizes": [size], "anchor_rotations": [0, 1.57], "anchor_bottom_heights": [bottom],
         "align_center": False, "feature_map_stride": 1, "matched_threshold": positive,
         "unmatched_threshold": negative}
        for name, (size, bottom, positive, negative) in sizes.items()
    ]  # fmt: skip
    weights = {"cls_weight": 1.0, "loc_weight": 2.0, "dir_weight": 0.2, "code_weights": [1.0] * 7}
    assigner = {"NAME": "AxisAlignedTargetAssigner", "POS_FRACTION": -1.0, "SAMPLE_SIZE": 512, "MATCH_HEIGHT": False,
                "NORM_BY_NUM_EXAMPLES": False, "BOX_CODER": "ResidualCoder"}  # fmt: skip
    return {
        "NAME": "AnchorHeadSingle", "CLASS_AGNOSTIC": False, "USE_DIRECTION_CLASSIFIER": True, "DIR_OFFSET": 0.78539,
        "DIR_LIMIT_OFFSET": 0.0, "NUM_DIR_BINS": 2, "ANCHOR_GENERATOR_CONFIG": anchors,
        "TARGET_ASSIGNER_CONFIG": assigner, "LOSS_CONFIG": {"LOSS_WEIGHTS": weights},
    }  # fmt: skip
