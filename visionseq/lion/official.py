"""The official configurations (OpenPCDet's YAML, as dicts) as the plain values of our detectors.

`ConfigError` names a section or key that is missing, and a value that would make another network, loss or assignment
than ours; keys that nothing here reads are passed over.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from visionseq.errors import ConfigError

Section = Mapping[str, Any]

BRANCHES = {"center": 2, "center_z": 1, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1}  # channels
# What is implemented of a key, in whichever section it stands.
FIXED = {
    "USE_NORM": (True,),
    "CLASS_AGNOSTIC": (False,),
    "IOU_REG_LOSS": (False,),
    "USE_DIRECTION_CLASSIFIER": (True,),
    "DIR_LIMIT_OFFSET": (0,),
    "HEAD_CONV_TYPE": ("subm",),
    "ACTIVATION": ("relu",),
    "MATCH_HEIGHT": (False,),
    "NORM_BY_NUM_EXAMPLES": (False,),
    "POS_FRACTION": (-1,),
    "BOX_CODER": ("ResidualCoder",),
    "DATASET": ("nuScenes", "Waymo"),
    "use_sigmoid": (True,),
}
FOCAL = {"gamma": 2.0, "alpha": 0.25}
SUPPRESSIONS = {"nms_gpu": "class_agnostic", "multi_class_nms": "multi_class"}


def detector_config(model: Section, class_names: Sequence[str], data: Section, point_features: int) -> dict[str, Any]:
    """Values of a `LionDetector` of the official MODEL section and `POINT_CLOUD_RANGE`, `VOXEL_SIZE` of the data."""
    model, data = _Checked(model, "MODEL"), _Checked(data, "DATA_CONFIG")
    config = {
        "class_names": list(class_names),
        "point_cloud_range": list(data["POINT_CLOUD_RANGE"]),
        "voxel_size": list(data["VOXEL_SIZE"]),
        "point_features": point_features,
        "vfe": vfe_config(model["VFE"]),
        "backbone_3d": backbone_config(model["BACKBONE_3D"]),
    }
    if "BACKBONE_2D" in model:
        config["backbone_2d"] = bev_config(model["BACKBONE_2D"])
    return {**config, "dense_head": head_config(model["DENSE_HEAD"], model.get("POST_PROCESSING", {}))}


class _Checked(dict):
    """A section and those in it, checked against `FIXED`; a missing key raises `ConfigError`."""

    def __init__(self, values: Section, name: str):
        self.name = name
        super().__init__({key: self._value(key, value) for key, value in values.items()})

    def __missing__(self, key: str) -> Any:
        raise ConfigError(f"{self.name}: {key} is missing")

    def _value(self, key: str, value: Any) -> Any:
        if key in FIXED and value not in FIXED[key]:
            raise ConfigError(f"{self.name}: {key} {value!r}, expected {' or '.join(map(str, FIXED[key]))}")
        if isinstance(value, Mapping):
            return _Checked(value, f"{self.name}.{key}")
        if isinstance(value, list | tuple):
            return [_Checked(item, f"{self.name}.{key}") if isinstance(item, Mapping) else item for item in value]
        return value


def vfe_config(section: Section) -> dict[str, Any]:
    config = {"type": section.get("NAME", "DynamicVoxelVFE"), "num_filters": list(section["NUM_FILTERS"])}
    if not section.get("USE_ABSLOTE_XYZ", True):
        config["use_absolute_xyz"] = False
    if section.get("WITH_DISTANCE", False):
        config["with_distance"] = True
    return config


def backbone_config(section: Section) -> dict[str, Any]:
    names = {
        "FEATURE_DIM": "feature_dim",
        "WINDOW_SHAPE": "window_shape",
        "GROUP_SIZE": "group_size",
        "DEPTHS": "depths",
        "LAYER_DOWN_SCALES": "layer_down_scales",
        "DIFFUSION": "diffusion",
        "DIFF_SCALE": "diff_scale",
        "SHIFT": "shift",
        "DIRECTION": "direction",
    }
    operator = section["OPERATOR"]
    config = {"type": section.get("NAME", "LION3DBackboneOneStride")}
    config |= {ours: _plain(section[name]) for name, ours in names.items() if name in section}
    unused = {"shift_mode", "shift_pixel", "init_mode", "mode", "used_MLP"}  # one value each is ever used
    options = {name: value for name, value in (operator.get("CFG") or {}).items() if name not in unused}
    return {**config, "operator": {"name": operator["NAME"], **options}}


def bev_config(section: Section) -> dict[str, Any]:
    names = ("LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS", "UPSAMPLE_STRIDES", "NUM_UPSAMPLE_FILTERS")
    return {"type": section["NAME"], **{name.lower(): _plain(section[name]) for name in names}}


def head_config(section: Section, post_processing: Section) -> dict[str, Any]:
    """Values of a head of the official DENSE_HEAD section; an anchor head's thresholds are in POST_PROCESSING."""
    section, post_processing = _Checked(section, "DENSE_HEAD"), _Checked(post_processing, "POST_PROCESSING")
    name = section.get("NAME", "CenterHead")
    makers = {
        "CenterHead": _center,
        "SparseCenterHead": _sparse_center,
        "TransFusionHead": _transfusion,
        "AnchorHeadSingle": lambda given: _anchor(given, post_processing),
    }
    if name not in makers:
        raise ConfigError(f"DENSE_HEAD: {name}, expected one of {', '.join(makers)}")
    return {"type": name, **makers[name](section)}


def _center(section: Section) -> dict[str, Any]:
    branches, post = _branches(section, "center_z"), section["POST_PROCESSING"]
    config = {
        **_centre_based(section),
        "shared_conv_channel": section["SHARED_CONV_CHANNEL"],
        "use_bias_before_norm": section.get("USE_BIAS_BEFORE_NORM", False),
        "velocity": "vel" in branches,
        "iou": "iou" in branches,
        "num_conv": section.get("NUM_HM_CONV", 2),
        "bn_eps": section.get("BN_EPS", 1e-5),
        "bn_momentum": section.get("BN_MOM", 0.1),
    }
    if post.get("USE_IOU_TO_RECTIFY_SCORE", False):
        config["iou_rectifier"] = list(post["IOU_RECTIFIER"])
    return config


def _branches(section: Section, height: str) -> set[str]:
    """The names of the branches, which must have our channels and depth, and be coded in our order."""
    heads, depth = section["SEPARATE_HEAD_CFG"], section.get("NUM_HM_CONV", 2)
    for name, branch in heads["HEAD_DICT"].items():
        if name not in BRANCHES:
            raise ConfigError(f"HEAD_DICT: {name}, expected some of {', '.join(BRANCHES)}")
        if (branch["out_channels"], branch["num_conv"]) != (BRANCHES[name], depth):
            raise ConfigError(f"HEAD_DICT: {name} {dict(branch)}, expected {BRANCHES[name]} channels, {depth} layers")
    order = ["center", height, "dim", "rot"]
    if [name for name in heads["HEAD_ORDER"] if name != "vel"] != order or "vel" in heads["HEAD_ORDER"][:-1]:
        raise ConfigError(f"HEAD_ORDER {heads['HEAD_ORDER']}, expected {order}, and vel after them if at all")
    return set(heads["HEAD_DICT"])


def _sparse_center(section: Section) -> dict[str, Any]:
    _branches(section, "center_z")
    return {
        **_centre_based(section),
        "bn_eps": section.get("BN_EPS", 1e-3),
        "bn_momentum": section.get("BN_MOM", 0.01),
    }


def _centre_based(section: Section) -> dict[str, Any]:
    target, post = section["TARGET_ASSIGNER_CONFIG"], section["POST_PROCESSING"]
    weights = section["LOSS_CONFIG"]["LOSS_WEIGHTS"]
    return {
        "class_names_each_head": _plain(section["CLASS_NAMES_EACH_HEAD"]),
        "feature_map_stride": target.get("FEATURE_MAP_STRIDE", 1),
        "num_max_objs": target.get("NUM_MAX_OBJS", 500),
        "gaussian_overlap": target.get("GAUSSIAN_OVERLAP", 0.1),
        "min_radius": target.get("MIN_RADIUS", 2),
        "cls_weight": weights["cls_weight"],
        "loc_weight": weights["loc_weight"],
        "code_weights": list(weights["code_weights"]),
        "score_thresh": post["SCORE_THRESH"],
        "post_center_limit_range": list(post["POST_CENTER_LIMIT_RANGE"]),
        "max_obj_per_sample": post["MAX_OBJ_PER_SAMPLE"],
        "nms": _suppression(post["NMS_CONFIG"]),
    }


def _suppression(section: Section) -> dict[str, Any]:
    name = section.get("NMS_TYPE", "nms_gpu")
    if name not in SUPPRESSIONS:
        raise ConfigError(f"NMS_CONFIG: NMS_TYPE {name}, expected one of {', '.join(SUPPRESSIONS)}")
    config = {"kind": SUPPRESSIONS[name], "thresholds": _each(section["NMS_THRESH"])}
    for key, ours in (("NMS_PRE_MAXSIZE", "pre"), ("NMS_POST_MAXSIZE", "post")):
        limits = set(_each(section[key]))
        if len(limits) != 1:
            raise ConfigError(f"NMS_CONFIG: {key} {section[key]}, expected the same for all classes")
        config[ours] = limits.pop()
    if name == "multi_class_nms":
        config["swap_dims"] = True  # as the official code measures the overlap
    return config


def _transfusion(section: Section) -> dict[str, Any]:
    target, post, loss = section["TARGET_ASSIGNER_CONFIG"], section["POST_PROCESSING"], section["LOSS_CONFIG"]
    weights, costs = loss["LOSS_WEIGHTS"], target["HUNGARIAN_ASSIGNER"]
    _branches(section, "height")
    focal = {key: loss.get("LOSS_CLS", {}).get(key, value) for key, value in FOCAL.items()}
    if focal != FOCAL:
        raise ConfigError(f"LOSS_CLS: {focal}, expected {FOCAL}")
    names = {
        "NUM_PROPOSALS": "num_proposals",
        "HIDDEN_CHANNEL": "hidden_channel",
        "NUM_HEADS": "num_heads",
        "NMS_KERNEL_SIZE": "nms_kernel_size",
        "FFN_CHANNEL": "ffn_channel",
        "DROPOUT": "dropout",
        "BN_MOMENTUM": "bn_momentum",
    }
    return {
        **{ours: section[name] for name, ours in names.items() if name in section},
        "small_classes": [8, 9] if target.get("DATASET", "nuScenes") == "nuScenes" else [1, 2],
        "feature_map_stride": target["FEATURE_MAP_STRIDE"],
        "gaussian_overlap": target["GAUSSIAN_OVERLAP"],
        "min_radius": target["MIN_RADIUS"],
        "costs": {
            "cls": costs["cls_cost"]["weight"],
            "reg": costs["reg_cost"]["weight"],
            "iou": costs["iou_cost"]["weight"],
            "alpha": costs["cls_cost"].get("alpha", 0.25),
            "gamma": costs["cls_cost"].get("gamma", 2.0),
        },
        "cls_weight": weights["cls_weight"],
        "bbox_weight": weights["bbox_weight"],
        "hm_weight": weights["hm_weight"],
        "iou_weight": weights["loss_iou_rescore_weight"],
        "code_weights": list(weights["code_weights"]),
        "score_thresh": post["SCORE_THRESH"],
        "post_center_range": list(post["POST_CENTER_RANGE"]),
        "iou_rectifier": _each(post["IOU_RECTIFIER"])[0] if post.get("USE_IOU_TO_RECTIFY_SCORE", False) else 0.0,
    }


def _anchor(section: Section, post: Section) -> dict[str, Any]:
    generators, weights = section["ANCHOR_GENERATOR_CONFIG"], section["LOSS_CONFIG"]["LOSS_WEIGHTS"]
    shared = [(g["anchor_rotations"], g["align_center"], g["feature_map_stride"]) for g in generators]
    if any(other != shared[0] for other in shared) or any(len(g["anchor_sizes"]) != 1 for g in generators):
        raise ConfigError("ANCHOR_GENERATOR_CONFIG: expected one size for each class, the same rotations and strides")
    assigner = section.get("TARGET_ASSIGNER_CONFIG", {}).get("NAME", "AxisAlignedTargetAssigner")
    if assigner != "AxisAlignedTargetAssigner":
        raise ConfigError(f"TARGET_ASSIGNER_CONFIG: NAME {assigner}, expected AxisAlignedTargetAssigner")
    rotations, align_center, stride = shared[0]
    return {
        "anchors": [
            {
                "size": list(g["anchor_sizes"][0]),
                "bottom": g["anchor_bottom_heights"][0],
                "positive": g["matched_threshold"],
                "negative": g["unmatched_threshold"],
            }
            for g in generators
        ],
        "rotations": list(rotations),
        "align_center": align_center,
        "feature_map_stride": stride,
        "dir_offset": section["DIR_OFFSET"],
        "num_dir_bins": section["NUM_DIR_BINS"],
        "cls_weight": weights["cls_weight"],
        "loc_weight": weights["loc_weight"],
        "dir_weight": weights["dir_weight"],
        "code_weights": list(weights["code_weights"]),
        "score_thresh": post["SCORE_THRESH"],
        "nms": _suppression(post["NMS_CONFIG"]),
    }


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
