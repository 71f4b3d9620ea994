"""Official configurations: what would make another detector than ours is named."""

import copy

import pytest

from visionseq.errors import ConfigError
from visionseq.lion.official import detector_config, head_config

WEIGHTS = {"cls_weight": 1.0, "loc_weight": 2.0, "dir_weight": 0.2, "code_weights": [1.0] * 8}
SUPPRESSION = {"NMS_TYPE": "nms_gpu", "NMS_THRESH": 0.2, "NMS_PRE_MAXSIZE": 10, "NMS_POST_MAXSIZE": 5}
MODEL = {
    "VFE": {"NAME": "DynamicVoxelVFE", "USE_NORM": True, "NUM_FILTERS": [8, 8]},
    "BACKBONE_3D": {"FEATURE_DIM": 8, "OPERATOR": {"NAME": "Mamba", "CFG": {"d_state": 4}}},
    "DENSE_HEAD": {
        "NAME": "CenterHead",
        "CLASS_AGNOSTIC": False,
        "CLASS_NAMES_EACH_HEAD": [["Car"]],
        "SHARED_CONV_CHANNEL": 8,
        "SEPARATE_HEAD_CFG": {
            "HEAD_ORDER": ["center", "center_z", "dim", "rot"],
            "HEAD_DICT": {
                "center": {"out_channels": 2, "num_conv": 2},
                "center_z": {"out_channels": 1, "num_conv": 2},
                "dim": {"out_channels": 3, "num_conv": 2},
                "rot": {"out_channels": 2, "num_conv": 2},
            },
        },
        "TARGET_ASSIGNER_CONFIG": {"FEATURE_MAP_STRIDE": 1},
        "LOSS_CONFIG": {"LOSS_WEIGHTS": WEIGHTS},
        "POST_PROCESSING": {
            "SCORE_THRESH": 0.1,
            "POST_CENTER_LIMIT_RANGE": [-80, -80, -10, 80, 80, 10],
            "MAX_OBJ_PER_SAMPLE": 40,
            "NMS_CONFIG": SUPPRESSION,
        },
    },
}
DATA = {"POINT_CLOUD_RANGE": [-8, -8, -2, 8, 8, 2], "VOXEL_SIZE": [0.5, 0.5, 0.125]}
ANCHOR = {
    "anchor_sizes": [[3.9, 1.6, 1.56]],
    "anchor_rotations": [0, 1.57],
    "anchor_bottom_heights": [-1.78],
    "align_center": False,
    "feature_map_stride": 1,
    "matched_threshold": 0.6,
    "unmatched_threshold": 0.45,
}
ANCHORS = {
    "NAME": "AnchorHeadSingle",
    "ANCHOR_GENERATOR_CONFIG": [ANCHOR],
    "DIR_OFFSET": 0.78,
    "NUM_DIR_BINS": 2,
    "LOSS_CONFIG": {"LOSS_WEIGHTS": WEIGHTS},
}
MISSING = object()


def changed(path: str, value: object) -> dict:
    """The model with one value set, or taken away."""
    model = copy.deepcopy(MODEL)
    *sections, key = path.split(".")
    section = model
    for name in sections:
        section = section[name]
    if value is MISSING:
        del section[key]
    else:
        section[key] = value
    return model


def test_what_we_have_is_read():
    assert detector_config(MODEL, ["Car"], DATA, 4)["dense_head"]["nms"]["kind"] == "class_agnostic"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("VFE.USE_NORM", False, "MODEL.VFE: USE_NORM False, expected True"),
        ("DENSE_HEAD.CLASS_AGNOSTIC", True, "CLASS_AGNOSTIC True, expected False"),
        ("DENSE_HEAD.IOU_REG_LOSS", True, "IOU_REG_LOSS True, expected False"),
        ("DENSE_HEAD.NAME", "VoxelNeXtHead", "VoxelNeXtHead', expected one of"),
        ("DENSE_HEAD.SEPARATE_HEAD_CFG.HEAD_ORDER", ["rot", "center"], "HEAD_ORDER"),
        ("DENSE_HEAD.SEPARATE_HEAD_CFG.HEAD_DICT.rot.out_channels", 1, "rot has 1 channels, expected 2"),
        ("DENSE_HEAD.SEPARATE_HEAD_CFG.HEAD_DICT.mass", {"out_channels": 1, "num_conv": 2}, "mass, expected some of"),
        ("DENSE_HEAD.POST_PROCESSING.NMS_CONFIG.NMS_TYPE", "soft", "NMS_TYPE 'soft', expected one of"),
        ("DENSE_HEAD.POST_PROCESSING.NMS_CONFIG.MULTI_CLASSES_NMS", True, "MULTI_CLASSES_NMS True, expected False"),
        ("BACKBONE_2D", {"NAME": "BaseBEVBackboneV1"}, "MODEL.BACKBONE_2D: NAME 'BaseBEVBackboneV1', expected one of"),
        ("BACKBONE_3D.LAYER_DIM", [8, 8, 16, 16], r"LAYER_DIM \[8, 8, 16, 16\], expected FEATURE_DIM 8 throughout"),
        ("BACKBONE_3D.NUM_LAYERS", 5, "NUM_LAYERS 5, expected 4"),
        ("BACKBONE_3D.OPERATOR.CFG.d_model", 16, "d_model 16, expected FEATURE_DIM 8"),
        ("ROI_HEAD", {"NAME": "PVRCNNHead"}, "MODEL: ROI_HEAD is not implemented"),
        ("VFE", "DynamicVoxelVFE", "MODEL.VFE: 'DynamicVoxelVFE', expected a section"),
        ("DENSE_HEAD", MISSING, "MODEL: DENSE_HEAD is missing"),
        ("VFE.NUM_FILTERS", MISSING, "MODEL.VFE: NUM_FILTERS is missing"),
        ("DENSE_HEAD.LOSS_CONFIG.LOSS_WEIGHTS.cls_weight", MISSING, "LOSS_WEIGHTS: cls_weight is missing"),
    ],
)
def test_what_we_do_not_have_is_named(path, value, message):
    with pytest.raises(ConfigError, match=message):
        detector_config(changed(path, value), ["Car"], DATA, 4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("USE_DIRECTION_CLASSIFIER", False, "USE_DIRECTION_CLASSIFIER False"),
        ("DIR_LIMIT_OFFSET", 0.5, r"DIR_LIMIT_OFFSET 0\.5"),
        ("TARGET_ASSIGNER_CONFIG", {"NAME": "ATSSTargetAssigner"}, "ATSSTargetAssigner"),
        ("TARGET_ASSIGNER_CONFIG", {"BOX_CODER": "PointResidualCoder"}, "BOX_CODER 'PointResidualCoder'"),
    ],
)
def test_an_anchor_head_of_another_kind_is_named(key, value, message):
    post = {"SCORE_THRESH": 0.1, "NMS_CONFIG": SUPPRESSION}
    assert head_config(ANCHORS, post)["type"] == "AnchorHeadSingle"
    with pytest.raises(ConfigError, match=message):
        head_config({**ANCHORS, key: value}, post)
