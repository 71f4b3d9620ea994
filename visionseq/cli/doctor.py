"""`visionseq doctor`: the parts that this installation has, and those that are missing."""

import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from visionseq.cli.terminal import say
from visionseq.errors import KernelError
from visionseq.places import cache_folder, shipped_folder

_CORE = ("torch", "numpy", "scipy", "safetensors", "huggingface_hub", "lightning", "jsonargparse", "triton", "numba")
_EXTRAS = {
    "train": "training from YAML files, metrics, TensorBoard",
    "images": "image data sets and transforms",
    "huggingface": "image data sets of the Hugging Face Hub",
    "lidar": "point clouds in LAS, LAZ and Feather",
    "events": "event recordings in HDF5",
    "diffusers": "adapters for diffusers",
    "gpu": "sparse convolutions on CUDA",
    "viz": "recordings for the Rerun viewer",
    "bench": "the peers of the benchmarks",
    "spiking": "the peer of the spiking kernels",
    "docs": "building the documentation",
    "dev": "tests and linting",
}


def doctor() -> None:
    """Show versions, devices, the backend of each kernel, missing extras and their purposes, and the caches.

    Examples:
        visionseq doctor
    """
    for title, lines in (
        ("versions", _versions()),
        ("devices", _devices()),
        ("kernels", _kernels()),
        ("extras", _extras()),
        ("folders", _folders()),
    ):
        say(title, *(f"  {name:<16}  {text}" for name, text in lines), "")


def _versions() -> list[tuple[str, str]]:
    lines = [("python", f"{platform.python_version()} ({sys.executable})"), ("system", platform.platform())]
    return lines + [(name, _version(name) or "not installed") for name in ("visionseq", *_CORE)]


def _devices() -> list[tuple[str, str]]:
    import torch

    lines = [("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used by torch")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"compute capability {properties.major}.{properties.minor}"
        lines.append((f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {capability}"))
    if torch.backends.mps.is_available():
        lines.append(("mps", "Apple GPU"))
    return lines


def _kernels() -> list[tuple[str, str]]:
    """The backend of each kernel on each kind of device; then, for each backend, the devices that it serves."""
    from visionseq.kernels.backends import BACKENDS, implemented_backends, obstacle

    kinds = dict.fromkeys(name.partition(":")[0] for name, _ in _devices())
    lines = [
        (operator, ", ".join(f"{_serving(kind, backends)} on {kind}" for kind in kinds))
        for operator, backends in {**implemented_backends(), "(any)": BACKENDS}.items()
    ]
    for backend in BACKENDS:
        serving = [kind for kind in kinds if obstacle(backend, kind) is None]
        lines.append((backend, f"serves {', '.join(serving)}" if serving else f"{obstacle(backend, [*kinds][-1])}"))
    return [*lines, ("choice", f"VISIONSEQ_BACKEND={os.environ.get('VISIONSEQ_BACKEND', 'auto')}")]


def _serving(kind: str, implemented: tuple[str, ...]) -> str:
    from visionseq.kernels.backends import choose_backend

    try:
        return choose_backend(kind, implemented=implemented)
    except KernelError as error:  # VISIONSEQ_BACKEND names a backend that does not serve the device
        return f"none ({error})"


def _extras() -> list[tuple[str, str]]:
    lines = []
    for extra, missing in missing_requirements().items():
        purpose = _EXTRAS.get(extra, "")
        if missing:
            command = f"pip install 'visionseq[{extra}]'"
            lines.append((extra, f"{', '.join(missing)} missing: {purpose}; {command}"))
        else:
            lines.append((extra, f"complete: {purpose}"))
    return lines


def missing_requirements() -> dict[str, list[str]]:
    """For each extra of the installed visionseq, the distributions that are missing or too old on this system."""
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in metadata.requires("visionseq") or ()]
    extras = [extra for extra in metadata.metadata("visionseq").get_all("Provides-Extra") or () if extra != "all"]
    missing: dict[str, list[str]] = {extra: [] for extra in extras}
    for requirement in requirements:
        if requirement.name == "visionseq" or requirement.marker is None:
            continue
        for extra in extras:
            if requirement.marker.evaluate({"extra": extra}) and not requirement.marker.evaluate({"extra": ""}):
                version = _version(requirement.name)
                if version is None or not requirement.specifier.contains(version, prereleases=True):
                    missing[extra].append(f"{requirement.name}{requirement.specifier}")
    return missing


def _folders() -> list[tuple[str, str]]:
    from huggingface_hub.constants import HF_HUB_CACHE

    lines = [(name, str(shipped_folder(name))) for name in ("configs", "model_zoo")]
    for name, folder in (("zoo cache", cache_folder()), ("hub cache", Path(HF_HUB_CACHE)), ("here", Path.cwd())):
        lines.append((name, f"{folder}: {_access(folder)}"))
    return lines


def _access(folder: Path) -> str:
    """Whether files can be written to a folder, or to the nearest parent that exists."""
    existing = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
    try:
        with tempfile.TemporaryFile(dir=existing):
            return "writable" if existing == folder else f"writable (would be created in {existing})"
    except OSError as error:
        return f"NOT writable ({error.strerror})"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
