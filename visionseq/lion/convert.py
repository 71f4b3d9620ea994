"""Official checkpoints of LION (arXiv 2407.18232) <-> ours; exact, strict, both ways.

Our modules have the official names, so that conversion checks and copies. Sparse convolutions of spconv 1.x are turned
into the layout of 2.x; the trainer's counter `global_step` is left out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visionseq.data.lidar.preparation import PointPreparation
from visionseq.errors import CheckpointError, ConfigError
from visionseq.lion.model import LionDetector
from visionseq.lion.official import detector_config
from visionseq.lion.presets import preset, preset_names
from visionseq.saving.weights import load_state

COUNTER = "global_step"
LICENCE = (
    "other",
    "The official code is Apache-2.0; weights follow the terms of the data that they were trained on (nuScenes, "
    "Argoverse 2: non-commercial).",
)
OLD_KERNEL = (4, 0, 1, 2, 3)  # [z, y, x, C_in, C_out] as [C_out, z, y, x, C_in]


def from_official(state: Mapping[str, Any], config: Mapping[str, Any]) -> LionDetector:
    """Our detector, in eval mode, from an official state and its configuration.

    Args:
        state: names -> tensors, or the {"model_state": ...} of a checkpoint file.
        config: one of three: the official YAML as a dict (CLASS_NAMES, DATA_CONFIG, MODEL), with the data's base
            configuration filled in; its parts (model_cfg, class_names, point_cloud_range, voxel_size,
            num_point_features); or the values of a `LionDetector`.

    Raises:
        CheckpointError: the state does not fit; with a table of missing, unexpected and misshapen entries.
        ConfigError: the configuration lacks something, or has what we do not know.
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


def detector_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a `LionDetector` from any of the forms that `from_official` takes."""
    if "dense_head" in config:
        return dict(config)
    try:
        if "MODEL" in config:
            data = config["DATA_CONFIG"]
            voxels = [step["VOXEL_SIZE"] for step in data["DATA_PROCESSOR"] if "VOXEL_SIZE" in step]
            used = data["POINT_FEATURE_ENCODING"]["used_feature_list"]
            place = {"POINT_CLOUD_RANGE": data["POINT_CLOUD_RANGE"], "VOXEL_SIZE": voxels[0]}
            return detector_config(config["MODEL"], config["CLASS_NAMES"], place, len(used))
        place = {"POINT_CLOUD_RANGE": config["point_cloud_range"], "VOXEL_SIZE": config["voxel_size"]}
        return detector_config(config["model_cfg"], config["class_names"], place, config["num_point_features"])
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"configuration: lacks {error}; name one of ours with --preset instead") from error


def preparation_of(model: LionDetector) -> PointPreparation:
    """What the official pipelines feed a detector of these classes and columns."""
    waymo, nuscenes = "Vehicle" in model.class_names, "traffic_cone" in model.class_names
    features = ["x", "y", "z", "intensity", "elongation" if waymo else "time"][: model.point_features]
    squashed = ["intensity", "elongation"] if waymo else []
    return PointPreparation(features, model.point_cloud_range, model.class_names, squashed, mask_z=nuscenes)


def _weights(state: Mapping[str, Any], detector: LionDetector) -> dict[str, Tensor]:
    state = unwrap(state)
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"the official state is a {type(state).__name__}, expected a dict of names and tensors")
    expected = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    found = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"the official state: entry {name!r} is a {type(tensor).__name__}, expected a tensor")
        if name == COUNTER:
            continue
        shape = expected.get(name, tensor.shape)
        if tensor.shape != shape and tensor.ndim == 5 and tensor.permute(OLD_KERNEL).shape == shape:
            tensor = tensor.permute(OLD_KERNEL).contiguous()
        if name.endswith("num_batches_tracked") and tensor.numel() == 1:
            tensor = tensor.reshape(())
        found[name] = tensor
    for name, tensor in detector.state_dict().items():  # counters that older files lack
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, torch.zeros_like(tensor))
    return found
