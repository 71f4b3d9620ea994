"""The official configurations (OpenPCDet's YAML, as dicts) as the plain values of our detectors.

`ConfigError` names a section or key that is missing, and a value that would make another network, loss or assignment
than ours; keys that no function here reads are ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from visionseq.errors import ConfigError
from visionseq.lion.layer import OPERATORS
from visionseq.lion.official_heads import head_config
from visionseq.lion.official_section import Section

SECTIONS = ("VFE", "BACKBONE_3D", "MAP_TO_BEV", "BACKBONE_2D", "DENSE_HEAD", "POST_PROCESSING")
VFES = ("DynamicVoxelVFE", "DynamicPillarVFE")
BACKBONES_3D = ("LION3DBackboneOneStride", "LION3DBackboneOneStride_Sparse")
BACKBONES_2D = ("BaseBEVBackbone", "BaseBEVResBackbone")
BACKBONE_NAMES = {
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
BEV_NAMES = ("LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS", "UPSAMPLE_STRIDES", "NUM_UPSAMPLE_FILTERS")
STAGES = 4
UNREAD_OPTIONS = {"shift_mode", "shift_pixel", "init_mode", "mode", "used_MLP"}  # of operators; one value each is used


def detector_config(
    model: Mapping[str, Any], class_names: Sequence[str], data: Mapping[str, Any], point_features: int
) -> dict[str, Any]:
    """Values of a `LionDetector` of the official MODEL section and `POINT_CLOUD_RANGE`, `VOXEL_SIZE` of the data."""
    model, data = Section(model, "MODEL"), Section(data, "DATA_CONFIG")
    others = [name for name, value in model.items() if isinstance(value, Section) and name not in SECTIONS]
    if others:
        raise ConfigError(f"MODEL: {', '.join(others)} is not implemented, expected some of {', '.join(SECTIONS)}")
    config = {
        "class_names": list(class_names),
        "point_cloud_range": data.plain("POINT_CLOUD_RANGE"),
        "voxel_size": data.plain("VOXEL_SIZE"),
        "point_features": point_features,
        "vfe": vfe_config(model.section("VFE")),
        "backbone_3d": backbone_config(model.section("BACKBONE_3D")),
    }
    if "BACKBONE_2D" in model:
        config["backbone_2d"] = bev_config(model.section("BACKBONE_2D"))
        model.section("MAP_TO_BEV", optional=True).one_of("NAME", ("HeightCompression",), "HeightCompression")
    return {
        **config,
        "dense_head": head_config(
            model.section("DENSE_HEAD"), model.section("POST_PROCESSING", optional=True), class_names
        ),
    }


def vfe_config(section: Section) -> dict[str, Any]:
    """Values of the voxel encoder of the official VFE section."""
    config = {"type": section.one_of("NAME", VFES, VFES[0]), "num_filters": section.plain("NUM_FILTERS")}
    if not section.get("USE_ABSLOTE_XYZ", True):
        config["use_absolute_xyz"] = False
    if section.get("WITH_DISTANCE", False):
        config["with_distance"] = True
    return config


def backbone_config(section: Section) -> dict[str, Any]:
    """Values of the 3D backbone of the official BACKBONE_3D section."""
    # Widths and stages that are said twice must agree.
    width, stages = section["FEATURE_DIM"], section.get("NUM_LAYERS", STAGES)
    if stages != STAGES:
        raise ConfigError(f"{section.name}: NUM_LAYERS {stages}, expected {STAGES}")
    if set(section.get("LAYER_DIM", [width])) != {width}:
        raise ConfigError(f"{section.name}: LAYER_DIM {section['LAYER_DIM']}, expected FEATURE_DIM {width} throughout")

    config = {"type": section.one_of("NAME", BACKBONES_3D, BACKBONES_3D[0])}
    config |= {ours: section.plain(name) for name, ours in BACKBONE_NAMES.items() if name in section}
    return {**config, "operator": _operator(section.section("OPERATOR"), width)}


def _operator(section: Section, width: int) -> dict[str, Any]:
    """Name and options; some official files repeat the width of the network among the options.

    The official code recomputes every operator in the backward pass, whatever the file says.
    """
    options = {
        name: value for name, value in section.section("CFG", optional=True).items() if name not in UNREAD_OPTIONS
    }
    d_model = options.pop("d_model", width)
    if d_model != width:
        raise ConfigError(f"{section.name}.CFG: d_model {d_model}, expected FEATURE_DIM {width}")
    return {"name": section.get("NAME", next(iter(OPERATORS))), "with_cp": True, **options}


def bev_config(section: Section) -> dict[str, Any]:
    """Values of the 2D backbone of the official BACKBONE_2D section."""
    name = section.one_of("NAME", BACKBONES_2D, BACKBONES_2D[0])
    return {"type": name, **{key.lower(): section.plain(key) for key in BEV_NAMES}}
