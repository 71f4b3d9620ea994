"""The detector: points -> voxels -> LION backbone -> map seen from above -> head -> boxes (arXiv 2407.18232)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion import backbone, bev, heads, limits, vfe
from visionseq.lion.detections import Detections
from visionseq.lion.layer import operator
from visionseq.saving.pretrained import PretrainedModel

Module = TypeVar("Module", bound=nn.Module)

VFES = {kind.__name__: kind for kind in (vfe.DynamicVoxelVFE, vfe.DynamicPillarVFE)}
BACKBONES_3D = {
    kind.__name__: kind for kind in (backbone.LION3DBackboneOneStride, backbone.LION3DBackboneOneStride_Sparse)
}
BACKBONES_2D = {kind.__name__: kind for kind in (bev.BaseBEVBackbone, bev.BaseBEVResBackbone)}
HEADS = {name: getattr(heads, name) for name in heads.__all__}

MISFITS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)  # of values in a config

Part = Mapping[str, Any]


class LionDetector(PretrainedModel):
    """A one-stage detector of boxes in point clouds.

    Args:
        class_names: in the order of the labels, from 1.
        point_cloud_range: x, y, z minima, then maxima, in metres.
        voxel_size: x, y, z in metres.
        point_features: columns of a point, x, y, z included.
        vfe: `type` (a name of `VFES`) and its arguments.
        backbone_3d: `type` (a name of `BACKBONES_3D`), `operator` (`name` and options) and its arguments.
        dense_head: `type` (a name of `HEADS`) and its arguments.
        backbone_2d: `type` (a name of `BACKBONES_2D`) and its arguments; None where the head takes the sparse map.

    `ConfigError` names the part with an unknown type or argument, with a number out of bounds, or that does not
    match the others.
    """

    room: ClassVar[str] = "lion"

    def __init__(
        self,
        class_names: Sequence[str],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        point_features: int,
        vfe: Part,
        backbone_3d: Part,
        dense_head: Part,
        backbone_2d: Part | None = None,
    ):
        super().__init__()
        # The values, as they are saved.
        limits.grid_of(point_cloud_range, voxel_size)
        self.class_names = limits.check_names("class_names", class_names)
        self.point_features = limits.count("point_features", point_features, limits.MOST_CHANNELS, least=3)
        self.point_cloud_range, self.voxel_size = list(point_cloud_range), list(voxel_size)
        self.config = {
            "class_names": self.class_names,
            "point_cloud_range": self.point_cloud_range,
            "voxel_size": self.voxel_size,
            "point_features": point_features,
            "vfe": _copy(vfe),
            "backbone_3d": _copy(backbone_3d),
            "dense_head": _copy(dense_head),
            "backbone_2d": None if backbone_2d is None else _copy(backbone_2d),
        }

        # Voxels and 3D backbone.
        place = {"voxel_size": self.voxel_size, "point_cloud_range": self.point_cloud_range}
        self.vfe = _part("vfe", VFES, vfe, point_features, **place)
        options = dict(_section("backbone_3d", backbone_3d))
        build = operator(**{"name": "Mamba", **_section("backbone_3d.operator", options.pop("operator", {}))})
        self.backbone_3d = _part("backbone_3d", BACKBONES_3D, {**options, "build": build})
        channels = options["feature_dim"]

        # Map and head.
        self.backbone_2d: bev.BaseBEVBackbone | None = None
        if backbone_2d is not None:
            height = self.vfe.spatial_shape[0] // 16  # halved after each of the four blocks
            self.backbone_2d = _part("backbone_2d", BACKBONES_2D, backbone_2d, channels * height)
            channels = self.backbone_2d.num_bev_features
        frame = (self.class_names, self.point_cloud_range, self.voxel_size)
        self.dense_head = _part("dense_head", HEADS, dense_head, channels, *frame)
        if isinstance(self.dense_head, heads.SparseCenterHead) != (backbone_2d is None):
            raise ConfigError(
                "dense_head: SparseCenterHead takes a sparse map (no backbone_2d), all others a dense one"
            )

    def check_preprocessing(self, data: Mapping[str, Any], source: str) -> None:
        """Compare the preprocessing of `source`, a data module, with the detector and with its earlier training.

        Raises `ConfigError` that names both sides: data that are no point clouds, other classes or columns, another
        order of them, another range.
        """
        if data.get("kind") != "points":
            raise ConfigError(f"data: {source} holds {data.get('kind')}, {type(self).__name__} is made for points")
        both: dict[str, tuple[Any, Any]] = {
            "class_names": (self.class_names, data["class_names"]),
            "point_cloud_range": (self.point_cloud_range, data["point_cloud_range"]),
            "point_features": (self.point_features, len(data["features"])),
        }
        for name in ("class_names", "point_cloud_range", "features"):
            both[f"{name} of the earlier training"] = (self.preprocessing.get(name, data[name]), data[name])
        for name, (detector, other) in both.items():
            if detector != other:
                raise ConfigError(f"{name}: the detector has {detector}, data.preparation {other}; expected the same")

    def forward(self, points: Tensor, batch_size: int) -> Any:
        """Predictions of the head for points [N, 1 + point_features], the sample in column 0."""
        if points.ndim != 2 or points.shape[1] != 1 + self.point_features:
            raise ConfigError(
                f"points {list(points.shape)}, expected [N, {1 + self.point_features}] with the sample first"
            )
        voxels = self.vfe(points, batch_size)
        features = self.backbone_3d(voxels)
        if self.backbone_2d is None:
            return self.dense_head(features)
        return self.dense_head(self.backbone_2d(bev.height_compression(features)))

    def losses(self, points: Tensor, batch_size: int, gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts; `gt_boxes` [B, M, 8 or 10] as the heads take them."""
        return self.dense_head.losses(self(points, batch_size), gt_boxes)

    @torch.no_grad()
    def detect(self, points: Tensor, batch_size: int = 1) -> list[Detections]:
        """Boxes of each sample. One sample at a time, so that its boxes do not depend on the rest of the batch."""
        detections = []
        for sample in range(batch_size):
            detections += self.dense_head.detections(self(points_of(points, sample), 1))
        return detections


def points_of(points: Tensor, sample: int) -> Tensor:
    """Points [M, 1 + F] of one sample among points [N, 1 + F], with 0 for the number of the sample."""
    cloud = points[points[:, 0] == sample].clone()
    cloud[:, 0] = 0
    return cloud


def _part(section: str, kinds: Mapping[str, type[Module]], config: Part, *inputs: Any, **place: Any) -> Module:
    """The module that a section of the configuration describes."""
    options = dict(_section(section, config))
    name = options.pop("type", next(iter(kinds)))
    if not isinstance(name, str) or name not in kinds:
        raise ConfigError(f"{section}: type {name!r}, expected one of {', '.join(kinds)}")
    try:
        return kinds[name](*inputs, **place, **options)
    except MISFITS as error:
        raise ConfigError(f"{section}: {type(error).__name__}: {error}") from error


def _section(name: str, values: Any) -> Part:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: {type(values).__name__}, expected names and values")
    return values


def _copy(value: Any) -> Any:
    """Plain values, with lists for tuples, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value
