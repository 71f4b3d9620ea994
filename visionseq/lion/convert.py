"""Official checkpoints of LION (arXiv 2407.18232) <-> ours; exact, strict, both ways.

Our modules have the official names, so conversion only checks and copies. Sparse convolutions of spconv 1.x are
transposed into the layout of 2.x, and the trainer's counter `global_step` is left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionseq.data.lidar.nuscenes import CLASS_NAMES as NUSCENES_NAMES
from visionseq.data.lidar.preparation import PointPreparation
from visionseq.errors import CheckpointError, ConfigError
from visionseq.lion import official_files
from visionseq.lion.model import LionDetector
from visionseq.lion.official import detector_config
from visionseq.lion.official_section import Section
from visionseq.lion.presets import preset, preset_names
from visionseq.saving.weights import load_state

COUNTER = "global_step"
LICENCE = (
    "other",
    "The official code is Apache-2.0; weights follow the terms of the data that they were trained on (nuScenes, "
    "Argoverse 2: non-commercial).",
)
GROUND_LEVELS = {  # metres, in the frame of the data set with these classes
    ("Vehicle", "Pedestrian", "Cyclist"): 0.0,
    tuple(NUSCENES_NAMES): -1.84,
    ("Car", "Pedestrian", "Cyclist"): -1.73,
}
OLD_KERNEL = (4, 0, 1, 2, 3)  # [z, y, x, C_in, C_out] as [C_out, z, y, x, C_in]


def from_official(state: Mapping[str, Any], config: Mapping[str, Any]) -> LionDetector:
    """Our detector, in eval mode, from an official state and its configuration.

    Args:
        state: names -> tensors, or the {"model_state": ...} of a checkpoint file.
        config: one of four: the official file as `read_config` gives it (CLASS_NAMES, DATA_CONFIG, MODEL); its parts
            (model_cfg, class_names, point_cloud_range, voxel_size, num_point_features); a file of configs/lion/ as a
            dict; or the values of a `LionDetector`.

    Raises:
        CheckpointError: the state does not match; with a table of missing, unexpected and misshapen entries.
        ConfigError: the configuration lacks something, or asks for what is not implemented.
    """
    detector = build(config)
    weights = _weights(state, detector)
    load_state(detector, weights, "the official state")
    return detector.eval()


def build(config: Mapping[str, Any]) -> LionDetector:
    """Our detector, freshly initialised, from a configuration of the forms that `from_official` takes."""
    return LionDetector.from_config(detector_values(config))


def to_official(model: LionDetector) -> dict[str, Tensor]:
    """State dict in the official layout, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def official_config(model: LionDetector) -> dict[str, Any]:
    """Values that `from_official` rebuilds the model from."""
    return dict(model.config)


def presets() -> dict[str, dict[str, Any]]:
    """The values of the detectors of the official configurations by name."""
    return {name: preset(name) for name in preset_names()}


def preprocessing_of(model: LionDetector) -> dict[str, Any]:
    """What the official pipelines feed a detector, as plain values."""
    return preparation_of(model).preprocessing


def unwrap(content: Any) -> Any:
    """The state in what an official checkpoint file holds."""
    return content.get("model_state", content) if isinstance(content, Mapping) else content


def read_config(path: Path) -> dict[str, Any]:
    """The values of an official configuration file, with the base files that it names."""
    return official_files.read_config(path)


def detector_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a `LionDetector` from any of the forms that `from_official` takes."""
    if "dense_head" in config:
        return dict(config)
    try:
        section = Section(config, "configuration")
        if "MODEL" in section:
            return _of_official_file(section)
        if "model" in section:
            return config["model"]["init_args"]["detector"]
        place = {"POINT_CLOUD_RANGE": section["point_cloud_range"], "VOXEL_SIZE": section["voxel_size"]}
        model, names = section.section("model_cfg"), section["class_names"]
        return detector_config(model, names, place, section["num_point_features"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"configuration: a value of another kind than expected ({reason})") from error


def _of_official_file(config: Section) -> dict[str, Any]:
    """Values of a detector from CLASS_NAMES, DATA_CONFIG and MODEL."""
    data = config.section("DATA_CONFIG")
    voxels = [step["VOXEL_SIZE"] for step in data["DATA_PROCESSOR"] if "VOXEL_SIZE" in step]
    if not voxels:
        raise ConfigError(f"{data.name}: DATA_PROCESSOR has no step with a VOXEL_SIZE")
    columns = data.section("POINT_FEATURE_ENCODING")["used_feature_list"]
    place = {"POINT_CLOUD_RANGE": data["POINT_CLOUD_RANGE"], "VOXEL_SIZE": voxels[-1]}
    return detector_config(config.section("MODEL"), config["CLASS_NAMES"], place, len(columns))


def preparation_of(model: LionDetector) -> PointPreparation:
    """What the official pipelines feed a detector of these classes and columns."""
    waymo, nuscenes = "Vehicle" in model.class_names, "traffic_cone" in model.class_names
    features = ["x", "y", "z", "intensity", "elongation" if waymo else "time"][: model.point_features]
    return PointPreparation(
        features,
        model.point_cloud_range,
        model.class_names,
        squashed=["intensity", "elongation"] if waymo else [],
        mask_z=nuscenes,
        ground_level=GROUND_LEVELS.get(tuple(model.class_names)),
    )


def _weights(state: Mapping[str, Any], detector: LionDetector) -> dict[str, Tensor]:
    """The tensors of an official state, in our layout."""
    state = unwrap(state)
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"the official state is a {type(state).__name__}, expected a dict of names and tensors")
    expected = detector.state_dict()
    weights = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"the official state: entry {name!r} is a {type(tensor).__name__}, expected a tensor")
        if name != COUNTER:
            weights[name] = _in_our_layout(name, tensor, expected.get(name, tensor).shape)
    for name, tensor in expected.items():
        if _counts_batches(name):  # older files lack these
            weights.setdefault(name, torch.zeros_like(tensor))
    return weights


def _in_our_layout(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """Kernels of spconv 1.x are transposed; counters of batches have no axes."""
    if tensor.shape != shape and tensor.ndim == 5 and tensor.permute(OLD_KERNEL).shape == shape:
        return tensor.permute(OLD_KERNEL).contiguous()
    return tensor.reshape(()) if _counts_batches(name) and tensor.numel() == 1 else tensor


def _counts_batches(name: str) -> bool:
    return name.endswith("num_batches_tracked")
