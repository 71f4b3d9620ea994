"""The official DENSE_HEAD sections (OpenPCDet's YAML, as dicts) as the plain values of our heads.

`ConfigError` names what is missing and what is not implemented, as in `visionseq.lion.official`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from visionseq.errors import ConfigError
from visionseq.lion.official_section import Section, plain

BRANCHES = {"center": 2, "center_z": 1, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1}  # channels
FOCAL = {"gamma": 2.0, "alpha": 0.25}
SUPPRESSIONS = {"nms_gpu": "class_agnostic", "multi_class_nms": "multi_class"}
SMALL_CLASSES = {"nuScenes": [8, 9], "Waymo": [1, 2]}
TRANSFUSION_NAMES = {
    "NUM_PROPOSALS": "num_proposals",
    "HIDDEN_CHANNEL": "hidden_channel",
    "NUM_HEADS": "num_heads",
    "NMS_KERNEL_SIZE": "nms_kernel_size",
    "FFN_CHANNEL": "ffn_channel",
    "DROPOUT": "dropout",
    "BN_MOMENTUM": "bn_momentum",
}


def head_config(
    section: Mapping[str, Any], post_processing: Mapping[str, Any], class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Values of a head of the official DENSE_HEAD section.

    Args:
        section: DENSE_HEAD.
        post_processing: POST_PROCESSING of the model, which holds an anchor head's thresholds.
        class_names: of the detector, to check an order of classes that the section repeats; None: not checked.
    """
    head = Section(section, "DENSE_HEAD")
    makers = {
        "CenterHead": lambda: _center(head, "hm"),
        "SparseCenterHead": lambda: _center(head, "heatmap"),
        "TransFusionHead": lambda: _transfusion(head),
        "AnchorHeadSingle": lambda: _anchor(head, Section(post_processing, "POST_PROCESSING"), class_names),
    }
    name = head.one_of("NAME", makers, "CenterHead")
    return {"type": name, **makers[name]()}


def _center(section: Section, heat: str) -> dict[str, Any]:
    """Values of a centre-based head; the dense one calls its heat map hm, the sparse one heatmap."""
    target, post = section.section("TARGET_ASSIGNER_CONFIG"), section.section("POST_PROCESSING")
    weights, depths = section.section("LOSS_CONFIG").section("LOSS_WEIGHTS"), _branches(section, "center_z")
    depths[heat] = section.get("NUM_HM_CONV", 2)
    sparse = heat == "heatmap"
    config = {
        # Network.
        "class_names_each_head": section.plain("CLASS_NAMES_EACH_HEAD"),
        "use_bias_before_norm": section.get("USE_BIAS_BEFORE_NORM", False),
        "velocity": "vel" in depths,
        "iou": "iou" in depths,
        "num_conv": depths if len(set(depths.values())) > 1 else depths[heat],
        "bn_eps": section.get("BN_EPS", 1e-3 if sparse else 1e-5),
        "bn_momentum": section.get("BN_MOM", 0.01 if sparse else 0.1),
        # Targets and losses.
        "feature_map_stride": target.get("FEATURE_MAP_STRIDE", 1),
        "num_max_objs": target.get("NUM_MAX_OBJS", 500),
        "gaussian_overlap": target.get("GAUSSIAN_OVERLAP", 0.1),
        "min_radius": target.get("MIN_RADIUS", 2),
        "cls_weight": weights["cls_weight"],
        "loc_weight": weights["loc_weight"],
        "code_weights": weights.plain("code_weights"),
        # Decoding.
        "score_thresh": post["SCORE_THRESH"],
        "post_center_limit_range": post.plain("POST_CENTER_LIMIT_RANGE"),
        "max_obj_per_sample": post["MAX_OBJ_PER_SAMPLE"],
        "nms": _suppression(post.section("NMS_CONFIG")),
    }
    if not sparse:
        config["shared_conv_channel"] = section["SHARED_CONV_CHANNEL"]
    if post.get("USE_IOU_TO_RECTIFY_SCORE", False):
        config["iou_rectifier"] = post.plain("IOU_RECTIFIER")
    return config


def _branches(section: Section, height: str) -> dict[str, int]:
    """The branches of a box and how many convolutions each has; they must have our channels, and our order."""
    heads = section.section("SEPARATE_HEAD_CFG")
    depths = {}
    for name, branch in heads.section("HEAD_DICT").items():
        if name not in BRANCHES:
            raise ConfigError(f"HEAD_DICT: {name}, expected some of {', '.join(BRANCHES)}")
        if branch["out_channels"] != BRANCHES[name]:
            raise ConfigError(f"HEAD_DICT: {name} has {branch['out_channels']} channels, expected {BRANCHES[name]}")
        depths[name] = branch["num_conv"]

    coded = ["center", height, "dim", "rot", *(["vel"] if "vel" in depths else [])]
    if list(heads["HEAD_ORDER"]) != coded or not set(coded) <= set(depths):
        raise ConfigError(f"HEAD_ORDER {heads['HEAD_ORDER']} and HEAD_DICT {list(depths)}, expected the order {coded}")
    return depths


def _suppression(section: Section) -> dict[str, Any]:
    """Values of a `Suppression`; class by class the official code measures the overlap with dx and dy exchanged."""
    name = section.one_of("NMS_TYPE", SUPPRESSIONS, "nms_gpu")
    config = {
        "kind": SUPPRESSIONS[name],
        "thresholds": _each(section["NMS_THRESH"]),
        "pre": section.plain("NMS_PRE_MAXSIZE"),
        "post": section.plain("NMS_POST_MAXSIZE"),
    }
    return {**config, "swap_dims": True} if name == "multi_class_nms" else config


def _transfusion(section: Section) -> dict[str, Any]:
    """Values of a `TransFusionHead`."""
    # What the network has no choice in.
    target, post, loss = (
        section.section("TARGET_ASSIGNER_CONFIG"),
        section.section("POST_PROCESSING"),
        section.section("LOSS_CONFIG"),
    )
    depths = {**_branches(section, "height"), "heatmap": section.get("NUM_HM_CONV", 2)}
    if set(depths.values()) != {2} or not {"vel", "iou"} <= set(depths):
        raise ConfigError(f"DENSE_HEAD: branches {depths}, expected vel and iou among them, of 2 convolutions each")
    focal = {key: loss.section("LOSS_CLS", optional=True).get(key, value) for key, value in FOCAL.items()}
    if focal != FOCAL:
        raise ConfigError(f"LOSS_CLS: {focal}, expected {FOCAL}")

    weights, costs = loss.section("LOSS_WEIGHTS"), target.section("HUNGARIAN_ASSIGNER")
    return {
        **{ours: section[name] for name, ours in TRANSFUSION_NAMES.items() if name in section},
        "small_classes": SMALL_CLASSES[target.one_of("DATASET", SMALL_CLASSES, "nuScenes")],
        # Targets and losses.
        "feature_map_stride": target["FEATURE_MAP_STRIDE"],
        "gaussian_overlap": target["GAUSSIAN_OVERLAP"],
        "min_radius": target["MIN_RADIUS"],
        "costs": {
            "cls": costs.section("cls_cost")["weight"],
            "reg": costs.section("reg_cost")["weight"],
            "iou": costs.section("iou_cost")["weight"],
            "alpha": costs.section("cls_cost").get("alpha", 0.25),
            "gamma": costs.section("cls_cost").get("gamma", 2.0),
        },
        "cls_weight": weights["cls_weight"],
        "bbox_weight": weights["bbox_weight"],
        "hm_weight": weights["hm_weight"],
        "iou_weight": weights["loss_iou_rescore_weight"],
        "code_weights": weights.plain("code_weights"),
        # Decoding.
        "score_thresh": post["SCORE_THRESH"],
        "post_center_range": post.plain("POST_CENTER_RANGE"),
        "iou_rectifier": _one_or_each(post["IOU_RECTIFIER"]) if post.get("USE_IOU_TO_RECTIFY_SCORE", False) else 0.0,
    }


def _anchor(section: Section, post: Section, class_names: Sequence[str] | None) -> dict[str, Any]:
    """Values of an `AnchorHeadSingle`."""
    # One size for each class, at the same places.
    generators, weights = section["ANCHOR_GENERATOR_CONFIG"], section.section("LOSS_CONFIG").section("LOSS_WEIGHTS")
    shared = [(g["anchor_rotations"], g["align_center"], g["feature_map_stride"]) for g in generators]
    single = all(len(g["anchor_sizes"]) == len(g["anchor_bottom_heights"]) == 1 for g in generators)
    if not shared or any(other != shared[0] for other in shared) or not single:
        raise ConfigError("ANCHOR_GENERATOR_CONFIG: expected one size for each class, the same rotations and strides")
    names = [g["class_name"] for g in generators if "class_name" in g]
    if class_names is not None and names and names != list(class_names):
        raise ConfigError(f"ANCHOR_GENERATOR_CONFIG: classes {names}, expected the order of CLASS_NAMES {class_names}")
    assigners = ("AxisAlignedTargetAssigner",)
    section.section("TARGET_ASSIGNER_CONFIG", optional=True).one_of("NAME", assigners, assigners[0])

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
        "code_weights": weights.plain("code_weights"),
        "score_thresh": post["SCORE_THRESH"],
        "nms": _suppression(post.section("NMS_CONFIG")),
    }


def _each(value: Any) -> list[Any]:
    return plain(value) if isinstance(value, list | tuple) else [value]


def _one_or_each(value: Any) -> Any:
    """A list of one value as that value."""
    values = _each(value)
    return values[0] if len(values) == 1 else values
