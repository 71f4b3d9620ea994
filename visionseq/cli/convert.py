"""`visionseq convert`: official checkpoints to model folders, and back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionseq.cli.terminal import say
from visionseq.errors import CheckpointError, ConfigError
from visionseq.files import atomic_path, sha256_of, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from visionseq.saving.pretrained import PretrainedModel


def convert(
    room: str,
    source: str,
    out: Path,
    *,
    config: Path | None = None,
    preset: str | None = None,
    model: str | None = None,
    reverse: bool = False,
    overwrite: bool = False,
) -> None:
    """Turn an official checkpoint into a model folder; with --reverse, a model into an official checkpoint.

    The weights are checked to be the same bits after conversion. Files are read without running code from them:
    NVIDIA's own EDM releases contain code and are refused; save their state dict in a separate, trusted step.

    Args:
        room: Name of the paper's room; a wrong one lists them.
        source: Official .pth or .safetensors file; with --reverse a model folder, run folder or name in the zoo.
        out: Model folder to write; with --reverse the .pth or .safetensors file (its configuration goes beside it as
            .json).
        config: The official configuration, JSON or YAML; default: the .json of the same name beside `source`.
        preset: Name of an official configuration instead of a file; a wrong one lists the room's. Without any of these,
            the configuration whose shapes match is taken.
        model: Class of the result where several have the same weights, as a student and its teacher do; default: the
            room's choice.
        reverse: From ours to the official layout.
        overwrite: Replace what `out` names.

    Examples:
        visionseq convert rectified_flow official.pth out/
        visionseq convert rectified_flow edm.pth teacher/ --preset cifar10_ve_aug --model EDMDenoiser
        visionseq convert rectified_flow student.pth out/ --config values.json
        visionseq convert rectified_flow out/ official.pth --reverse
        visionseq convert lion lion_mamba.pth out/ --preset lion_mamba_nusc_8x_1f_1x_one_stride_128dim
    """
    if reverse:
        if config or preset or model:
            raise ConfigError("config, preset and model describe an official file; with --reverse the model knows them")
        targets = [out, out.with_suffix(".json")]
        _refuse_model_files(targets)
        _keep(targets, source, overwrite)
        _to_official(room, source, *targets)
    else:
        _keep(_files_of_folder(out), source, overwrite)
        _from_official(room, Path(source), out, config, preset, model)


def _files_of_folder(folder: Path) -> list[Path]:
    from visionseq.saving.model_folder import CARD, CONFIG, WEIGHTS

    return [folder / name for name in (CONFIG, WEIGHTS, CARD)]


def _keep(targets: list[Path], source: str, overwrite: bool) -> None:
    """Existing files are replaced on request only, and the source never."""
    if Path(source).resolve() in [path.resolve() for path in targets]:
        raise ConfigError(f"out: the result would replace its source {source}; choose another name or folder")
    if folders := [path for path in targets if path.is_dir()]:
        raise ConfigError(f"out: {folders[0]} is a folder, expected the name of a file")
    existing = [str(path) for path in targets if path.exists()]
    if existing and not overwrite:
        raise ConfigError(f"out: {', '.join(existing)} exists; --overwrite replaces it")


def _refuse_model_files(targets: list[Path]) -> None:
    """An official checkpoint never replaces a file of a model folder, also on request: the folder would be broken."""
    from visionseq.saving.model_folder import is_model_folder

    for path in targets:
        if is_model_folder(path.parent) and path in _files_of_folder(path.parent):
            raise ConfigError(f"out: {path} belongs to the model folder {path.parent}; choose another name or folder")


def _from_official(
    room: str, source: Path, out: Path, config: Path | None, preset: str | None, model: str | None
) -> None:
    from visionseq.convert import from_official, read_official

    state = read_official(room, source)
    beside = source.with_suffix(".json")
    if config is None and preset is None and beside.is_file():
        config = beside
    values, origin = _official_values(room, state, config, preset)
    ours = from_official(room, state, values, model)
    _check_same_bits(room, ours, state, source)
    dtype = _common_dtype(state)
    ours.to(dtype).save_pretrained(out, card=_card(room, ours, source, origin))
    say(f"{out}: {type(ours).__name__}, {_parameters(ours):,} parameters, {str(dtype)[6:]}, {origin}")


def _to_official(room: str, source: str, out: Path, values: Path) -> None:
    from visionseq.convert import official_config, to_official
    from visionseq.saving.model_folder import WEIGHTS, is_model_folder
    from visionseq.saving.weights import read_header, write_safetensors
    from visionseq.zoo.loading import load

    model = load(source)
    state, config = to_official(room, model), official_config(room, model)
    if is_model_folder(source):
        stored = read_header(Path(source) / WEIGHTS)
        # Of the parameters alone: buffers such as frequencies stay in float32 in a model of another width.
        dtype = _common_dtype({name: stored[name] for name, _ in model.named_parameters() if name in stored})
        state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    if out.suffix == ".safetensors":
        write_safetensors(out, state)
    else:
        _torch_save(out, state)
    write_json(values, config)
    say(f"{out}: {len(state)} tensors, {_parameters(model):,} parameters; configuration in {values}")


def _official_values(
    room: str, state: "dict[str, Tensor]", config: Path | None, preset: str | None
) -> tuple[dict[str, Any], str]:
    """The values of the configuration, and its origin in words."""
    from visionseq.convert import fitting_presets, preset_configs

    if config and preset:
        raise ConfigError("config and preset both name the configuration; give one of them")
    if config:
        return _read_config(room, config), f"configuration {config.name}"
    presets = preset_configs(room)
    if preset is not None and preset not in presets:
        raise ConfigError(f"preset {preset!r}, expected one of {', '.join(presets)}")
    names = [preset] if preset else fitting_presets(room, state)
    if not names:
        raise CheckpointError(f"the state matches none of {', '.join(presets)}; give its configuration with --config")
    alike = f" (the same network as {', '.join(names[1:])})" if names[1:] else ""
    return presets[names[0]], f"configuration {names[0]}{alike}"


def _read_config(room: str, path: Path) -> dict[str, Any]:
    """The values of a configuration file; a room whose files refer to others brings `read_config` for them."""
    from visionseq.rooms import converter

    part = converter(room)
    if hasattr(part, "read_config"):
        return part.read_config(path)
    import yaml

    try:
        value = yaml.safe_load(path.read_bytes()) if path.suffix in (".yaml", ".yml") else json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"config: {path} is no readable JSON or YAML file: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"config: {path} holds a {type(value).__name__}, expected an object of names and values")
    return value


def _check_same_bits(room: str, model: "PretrainedModel", state: "dict[str, Tensor]", source: Path) -> None:
    """Values that our precision cannot hold (float64) are an error, not a rounding."""
    import torch

    from visionseq.convert import to_official

    for name, back in to_official(room, model).items():
        original = state.get(name, state.get(name.removeprefix("model.")))
        if original is None or original.numel() == 1:  # a counter
            continue
        if original.shape != back.shape:  # spconv 1.x keeps its kernels the other way round
            back = back.permute(1, 2, 3, 4, 0)
        if not torch.equal(back.to(original.dtype), original) and not original.isnan().any():
            raise CheckpointError(
                f"{source}: {name} ({original.dtype}) does not survive the conversion to {back.dtype}"
            )


def _common_dtype(state: "dict[str, Tensor]") -> "torch.dtype":
    """The floating dtype that all floating tensors share; float32 where they differ."""
    import torch

    dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _torch_save(path: Path, state: "dict[str, Tensor]") -> None:
    import torch

    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _card(room: str, model: "PretrainedModel", source: Path, origin: str) -> str:
    from visionseq.convert import licence

    name, note = licence(room)
    return f"""---
library_name: visionseq
license: {name}
tags: [{room}]
---

# {source.stem}

`{type(model).__name__}` of `visionseq.{room}`, {_parameters(model):,} parameters, from an official checkpoint.

- source file: {source.name}, sha256 {sha256_of(source)}
- {origin}
- licence: {note}

```python
import visionseq

model = visionseq.load("path/to/this/folder")
```
"""


def _parameters(model: "PretrainedModel") -> int:
    return sum(parameter.numel() for parameter in model.parameters())
