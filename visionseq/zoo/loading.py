"""From a name to a ready module: zoo entries, model folders, run folders, the trainer's checkpoints, the Hub."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from visionseq.errors import CheckpointError, ConfigError
from visionseq.saving.hub import PREFIXES, HubOptions, fetch_model_folder
from visionseq.saving.model_folder import RAW_WEIGHTS, WeightsName, is_model_folder, parse_description, read_description
from visionseq.saving.pretrained import Model, PretrainedModel, build
from visionseq.saving.weights import load_state, read_checkpoint
from visionseq.zoo.table import model_class

LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
_PREFIX = "model."  # the trainer's tasks keep their network under this attribute


def load(
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    weights: WeightsName = "ema",
) -> PretrainedModel:
    """Load a model with its weights and preprocessing, in eval mode.

    Args:
        name_or_path: A name of the zoo (`visionseq.list_models()`), a model folder, a run folder or one of its
            checkpoints, or `hf://org/repo@revision`.
        revision: Branch, tag or commit of a Hub repository.
        cache_dir: Folder for downloads; default: visionseq's cache for zoo entries, the Hub's for `hf://`.
        token: Access token of the Hub.
        force_download: Fetch files again that the cache holds.
        local_files_only: Use no network.
        weights: `ema`, the averaged weights where a run kept an average, or `raw`, those that the optimiser worked on.

    Raises `ZooError` where the name is unknown or cannot be fetched, `CheckpointError` where its files make no model.
    """
    name = os.fspath(name_or_path)
    if name.startswith(PREFIXES):
        options = HubOptions(revision, cache_dir, token, force_download, local_files_only)
        return load_folder(fetch_model_folder(name, options, weights), weights)
    path = Path(name).expanduser()
    if is_model_folder(path):
        return load_folder(path, weights)
    if (path / LAST_CHECKPOINT).is_file():
        return load_run(path / LAST_CHECKPOINT, weights)
    if path.is_file():
        return _load_file(path, weights)
    from visionseq.zoo.index import read_index  # read only where a name has to be looked up
    from visionseq.zoo.store import model_folder

    if name not in read_index().entries and (path.is_dir() or os.sep in name):
        raise CheckpointError(_no_model_in(path))
    folder = model_folder(
        name, cache_dir=cache_dir, token=token, force_download=force_download, local_files_only=local_files_only
    )
    return load_folder(folder, weights)


def load_as(kind: type[Model], name_or_path: str | os.PathLike) -> Model:
    """`load` for callers that need a model of one class; raises `ConfigError` for a model of another."""
    model = load(name_or_path)
    if not isinstance(model, kind):
        raise ConfigError(f"{name_or_path} is a {type(model).__name__}, expected a {kind.__name__}")
    return model


def load_folder(folder: str | os.PathLike, weights: WeightsName = "ema") -> PretrainedModel:
    """Load the model of a local model folder, in eval mode."""
    description = read_description(folder)
    return model_class(description.room, description.model, folder).from_folder(folder, weights)


def load_run(checkpoint_file: str | os.PathLike, weights: WeightsName = "ema") -> PretrainedModel:
    """Load the model of a trainer's checkpoint, in eval mode; `ema` takes the raw weights of a run without average."""
    if weights not in ("ema", "raw"):
        raise ConfigError(f"weights: {weights!r}, expected 'ema' or 'raw'")
    checkpoint = read_checkpoint(checkpoint_file)
    if not isinstance(checkpoint, Mapping) or "visionseq" not in checkpoint:
        raise CheckpointError(
            f"{checkpoint_file} was not written by visionseq's trainer; "
            "`visionseq convert` turns official files into a model folder"
        )
    description = parse_description(checkpoint["visionseq"], checkpoint_file)
    cls = model_class(description.room, description.model, checkpoint_file)
    state = _network_state(checkpoint, checkpoint_file, weights)
    model = build(cls, description, state, checkpoint_file)
    load_state(model, state, checkpoint_file)
    return model.eval()


def _load_file(path: Path, weights: WeightsName) -> PretrainedModel:
    if path.suffix == ".ckpt":
        return load_run(path, weights)
    if path.suffix == ".safetensors" and is_model_folder(path.parent):
        return load_folder(path.parent, "raw" if path.name == RAW_WEIGHTS else weights)
    raise CheckpointError(
        f"{path} is a single file: expected a model folder, a run folder or a .ckpt of the trainer; "
        "`visionseq convert` turns official files into a model folder"
    )


def _no_model_in(path: Path) -> str:
    if not path.exists():
        return f"{path}: no such folder (repositories of the Hub are named hf://org/repo@revision)"
    return f"{path} is neither a model folder (config.json) nor a run folder ({LAST_CHECKPOINT})"


def _network_state(checkpoint: Mapping[str, Any], source: str | os.PathLike, weights: WeightsName) -> dict[str, Tensor]:
    """The raw state of the network, or its buffers and averaged parameters; all names relative to the network."""
    raw, averaged = checkpoint.get("state_dict"), checkpoint.get("ema") or {}
    if not isinstance(raw, Mapping) or not isinstance(averaged, Mapping):
        raise CheckpointError(f"{source}: `state_dict` and `ema` must be tables of tensors")
    state = {name.removeprefix(_PREFIX): value for name, value in raw.items() if name.startswith(_PREFIX)}
    state.update(averaged if weights == "ema" else {})
    bad = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if bad is not None:
        raise CheckpointError(f"{source}: `{bad}` is {type(state[bad]).__name__}, expected a tensor")
    return state
