"""The `--device` of the commands that run a model."""

from typing import TYPE_CHECKING, Literal

from visionseq.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: DeviceName) -> "torch.device":
    """The device; `auto` is CUDA, then Apple's GPU, then the CPU. Raises `ConfigError` where it is missing."""
    import torch

    present: dict[DeviceName, bool]
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_present in present.items() if is_present)
    if not present[name]:
        raise ConfigError(f"device {name} is not available here; `visionseq doctor` shows the devices")
    return torch.device(name)
