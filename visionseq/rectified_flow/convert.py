"""Official checkpoints of rf++ (arXiv 2405.20320) and EDM (arXiv 2206.00364) <-> ours; exact, strict, both ways.

Teachers and students share one layout: the state dict of the wrapper, whose network is called `model`. Our wrappers
keep these names, so conversion checks and copies. The official JSON configuration holds the network's constructor
arguments, `unet_type` and `use_fp16`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visionseq.errors import CheckpointError, ConfigError
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.presets import PRESETS
from visionseq.saving.weights import load_state

UNET_TYPES = {"songunet": "SongUNet", "adm": "DhariwalUNet"}
STALE = ("num_params",)  # carried by the official files, and wrong there
LICENCE = (
    "cc-by-nc-sa-4.0",
    "Official rf++ students start from EDM's weights (github.com/NVlabs/edm): like these, the converted weights are "
    "for non-commercial use (CC BY-NC-SA 4.0). Keep this licence unless the weights were trained independently of EDM.",
)
UNUSED = ("aux_dim", "aug", "aug_dim")  # arguments of the official code without an effect


def from_official(
    state: Mapping[str, Any], config: Mapping[str, Any], model: type[EDMVelocity] | type[EDMDenoiser] = EDMVelocity
) -> EDMVelocity | EDMDenoiser:
    """Our model, in eval mode, from an official state and the values of the official JSON configuration.

    Args:
        state: state dict of the wrapper or of the bare network, or the {"model_state_dict": ...} of a resume file.
        config: constructor arguments, `unet_type` ("songunet" or "adm", by default that of the state), `use_fp16`.
        model: `EDMVelocity` for a student, `EDMDenoiser` for a teacher; both have the same weights.

    Raises:
        CheckpointError: the state does not match; with a table of missing, unexpected and misshapen entries.
        ConfigError: the configuration has a value or an argument that the network does not know.
    """
    weights = _network_state(state)
    unet_type = "adm" if "out_norm.weight" in weights else "songunet"
    converted = build({"unet_type": unet_type, **config}, model)
    load_state(converted, {f"model.{name}": tensor for name, tensor in weights.items()}, "the official state")
    return converted.eval()


def build(
    config: Mapping[str, Any], model: type[EDMVelocity] | type[EDMDenoiser] = EDMVelocity
) -> EDMVelocity | EDMDenoiser:
    """Our model, freshly initialised, from the values of the official JSON configuration; raises `ConfigError`."""
    network, use_fp16 = _network_config(config)
    return model(build_network(network), use_fp16=use_fp16)


def to_official(model: EDMVelocity | EDMDenoiser) -> dict[str, Tensor]:
    """State dict in the official layout, on the CPU; `ConfigError` for a network that the official code lacks."""
    official_config(model)
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def official_config(model: EDMVelocity | EDMDenoiser) -> dict[str, Any]:
    """Values of the official JSON configuration that describe the model."""
    arguments = dict(model.config["network"])
    types = {ours: official for official, ours in UNET_TYPES.items()}
    name = arguments.pop("type")
    if name not in types:
        raise ConfigError(f"network {name} has no official layout; {', '.join(types)} have one")
    return {"unet_type": types[name], "use_fp16": model.use_fp16, **arguments}


def presets() -> dict[str, dict[str, Any]]:
    """The values of the official JSON configurations by name."""
    return {name: {**preset.network, "use_fp16": preset.use_fp16} for name, preset in PRESETS.items()}


def preprocessing_of(model: EDMVelocity | EDMDenoiser) -> dict[str, Any]:
    """The input of the official networks: square images in [-1, 1], without further preprocessing."""
    return {"kind": "image", "size": model.img_resolution, "channels": model.in_channels, "class_names": []}


def unwrap(content: Any) -> Any:
    """The state in the content of an official file; of a resume file the raw weights."""
    return content.get("model_state_dict", content) if isinstance(content, Mapping) else content


def _network_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Names of the bare network -> tensors."""
    state = unwrap(state)
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"the official state is {_kind(state)}, expected a dict of names and tensors")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"the official state: entry {name!r} is {_kind(value)}, expected a tensor")
    prefix = "model." if all(name.startswith("model.") for name in state) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _network_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    arguments = {name: value for name, value in config.items() if name not in STALE}
    for name in UNUSED:
        if arguments.pop(name, None):
            raise ConfigError(f"configuration: {name} has no effect in the official code and is not supported")
    use_fp16 = bool(arguments.pop("use_fp16", False))
    unet_type = arguments.pop("unet_type", "songunet")
    if unet_type not in UNET_TYPES:
        raise ConfigError(f"configuration: unet_type {unet_type!r}, expected one of {', '.join(UNET_TYPES)}")
    return {"type": UNET_TYPES[unet_type], **arguments}, use_fp16


def _kind(value: Any) -> str:
    return "empty" if isinstance(value, Mapping) else f"a {type(value).__name__}"
