"""Modules that can be saved, loaded and shared: the three methods that huggingface_hub's users know.

A `PretrainedModel` names its room, keeps its constructor values in `config` and the preprocessing it was trained with
in `preprocessing`; a saved folder holds both beside the weights, so that nothing else is needed to run it.
(huggingface_hub's own mixin is not used: it falls back to pickled weights and ignores missing entries.)
"""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import Self

from visionseq.errors import CheckpointError, ConfigError, ZooError
from visionseq.files import atomic_write
from visionseq.saving import hub
from visionseq.saving.model_folder import (
    CARD,
    RAW_WEIGHTS,
    WEIGHTS,
    ModelDescription,
    WeightsName,
    is_model_folder,
    read_description,
    weights_file,
    write_description,
)
from visionseq.saving.weights import check_finite, load_state, read_header, read_safetensors, write_safetensors
from visionseq.saving.wrapped_names import plain_name, plain_state_of

Model = TypeVar("Model", bound="PretrainedModel")


class PretrainedModel(nn.Module):
    """Base of every model that the zoo can hold.

    A subclass sets `room`, calls `super().__init__()` and sets `config`: plain JSON values from which `from_config`
    rebuilds an equal module.
    """

    room: ClassVar[str]
    config: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing: dict[str, Any] = {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the module from the values of its `config`, freshly initialised."""
        return cls(**config)

    @property
    def description(self) -> ModelDescription:
        """Room, class name, config and preprocessing: what config.json and checkpoints keep."""
        return ModelDescription(self.room, type(self).__name__, self.config, self.preprocessing)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        *,
        card: str | None = None,
        raw_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write model.safetensors, config.json and README.md into `save_directory`, each file atomically.

        Args:
            save_directory: the folder; it is created.
            card: the README's text; without it an existing README stays and a missing one is generated.
            raw_weights: a second state, the weights of which this model has the average; it goes to
                model.raw.safetensors, a file that is removed where this argument is None.

        Raises `CheckpointError` for weights that are not finite, `WriteError` where the disk refuses.
        """
        folder, state = Path(save_directory), plain_state_of(self)
        check_finite(self, state, type(self).__name__)
        (folder / RAW_WEIGHTS).unlink(missing_ok=True)  # first: it belongs to the earlier weights
        write_safetensors(folder / WEIGHTS, state)
        if raw_weights is not None:
            raw_state = {plain_name(name): tensor for name, tensor in raw_weights.items()}
            write_safetensors(folder / RAW_WEIGHTS, raw_state)
        write_description(folder, self.description)
        if card is not None or not (folder / CARD).exists():
            with atomic_write(folder / CARD, "w") as file:
                file.write(card if card is not None else _plain_card(self))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        weights: WeightsName = "ema",
    ) -> Self:
        """Load this class from a model folder or a Hub repository `org/repo[@revision]`; the module is in eval mode.

        `weights="raw"` takes model.raw.safetensors, which the folder of a run has beside the average. Raises
        `CheckpointError` where the folder holds another class or a state that does not match, `ZooError` where the
        repository cannot be fetched. Names of the zoo and run folders are loaded by `visionseq.load`.
        """
        name = str(pretrained_model_name_or_path)
        if is_model_folder(name):
            return cls.from_folder(name, weights)
        if os.path.isdir(name):
            raise CheckpointError(
                f"{name} is no model folder (it lacks config.json); a run folder is loaded by visionseq.load"
            )
        if "/" not in name:
            raise ZooError(
                f"{name!r} is no model folder and no Hub repository org/repo; zoo names are loaded by visionseq.load"
            )
        options = hub.HubOptions(revision, cache_dir, token, force_download, local_files_only)
        return cls.from_folder(hub.fetch_model_folder(name, options, weights), weights)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike, weights: WeightsName = "ema") -> Self:
        """Load this class from a local model folder, in eval mode."""
        description, file = read_description(folder), weights_file(folder, weights)
        if (description.room, description.model) != (getattr(cls, "room", None), cls.__name__):
            raise CheckpointError(
                f"{folder} holds {description.room}/{description.model}, not {cls.__name__}; "
                "visionseq.load chooses the class by the folder"
            )
        model = build(cls, description, read_header(file), folder)
        load_state(model, read_safetensors(file), file)
        return model.eval()

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push model using visionseq.",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        card: str | None = None,
    ) -> str:
        """Save to a temporary folder and upload it to the Hub in one commit; returns the commit's address."""
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, card=card)
            return hub.push_folder(
                folder,
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                branch=branch,
                create_pr=create_pr,
            )


def build(
    cls: type[Model], description: ModelDescription, state: Mapping[str, Tensor], source: str | os.PathLike
) -> Model:
    """Construct `cls` for a state that is to be loaded, leaving the global random state alone.

    A config that needs far more memory than the state, or that the class refuses, raises `CheckpointError`.
    """
    with torch.random.fork_rng(devices=[]), AllocationLimit(state.values()):
        try:
            model = cls.from_config(description.config)
        except (TypeError, ValueError, KeyError, RuntimeError, ConfigError) as error:
            raise CheckpointError(f"{source}: its config does not build {description.model}: {error}") from error
    model.preprocessing = dict(description.preprocessing)
    return model


class AllocationLimit(TorchFunctionMode):
    """Stops a constructor that creates many times the values of the state, before it takes the memory and the time.

    Args:
        tensors: those of the state; the limits are 4 times their values and 8 times their number, and some more.

    Raises `ValueError` in the constructor.
    """

    _factories = frozenset((torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn))

    def __init__(self, tensors: Iterable[Tensor]):
        super().__init__()
        sizes = [tensor.numel() for tensor in tensors]
        self.values, self.tensors = sum(sizes), len(sizes)
        self.values_left, self.tensors_left = 4 * self.values + 10_000_000, 8 * self.tensors + 1000

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self._factories:
            size = (kwargs or {}).get("size", args if args and isinstance(args[0], int) else args[0] if args else ())
            self.values_left -= math.prod(size)
            self.tensors_left -= 1
            if self.values_left < 0:
                raise ValueError(f"it needs far more than the {self.values:,} values of the weights")
            if self.tensors_left < 0:
                raise ValueError(f"it needs far more than the {self.tensors:,} tensors of the weights")
        return function(*args, **(kwargs or {}))


def _plain_card(model: PretrainedModel) -> str:
    name, parameters = type(model).__name__, sum(parameter.numel() for parameter in model.parameters())
    return f"""---
library_name: visionseq
tags: [{model.room}]
---

# {name}

`{name}` of `visionseq.{model.room}`, {parameters:,} parameters.

```python
import visionseq

model = visionseq.load("path/to/this/folder")
```
"""
