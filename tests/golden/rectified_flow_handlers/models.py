"""Models and labels from a vector's configuration."""

from inspect import signature

from golden_vector import GoldenVector
from torch import Tensor

from rectified_flow_handlers.networks import network_of
from visionseq.rectified_flow.dhariwal_unet import DhariwalUNet
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity
from visionseq.rectified_flow.song_unet import SongUNet

ARGUMENTS = {*signature(SongUNet.__init__).parameters, *signature(DhariwalUNet.__init__).parameters, "unet_type"}


def velocity_of(config: dict, state: dict[str, Tensor]) -> EDMVelocity:
    return _loaded(EDMVelocity, config, state)


def denoiser_of(config: dict, state: dict[str, Tensor]) -> EDMDenoiser:
    return _loaded(EDMDenoiser, config, state)


def one_hot(vector: GoldenVector) -> Tensor | None:
    """The vector's class labels, where it is conditional and has some."""
    if not vector.config.get("label_dim"):
        return None
    return next((vector[key] for key in ("in/class_labels", "in/labels") if key in vector), None)


def _loaded(kind: type, config: dict, state: dict[str, Tensor]):
    model = kind(network_of({key: value for key, value in config.items() if key in ARGUMENTS}))
    prefix = "" if any(key.startswith("model.") for key in state) else "model."
    model.load_state_dict({prefix + key: value for key, value in state.items()})
    return model.eval()
