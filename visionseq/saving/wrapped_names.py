"""Names of a state without what wrappers put into them.

torch.compile, FSDP and activation checkpointing insert a part of their own; DataParallel, DistributedDataParallel and
torch's averaged models put `module.` in front of every name. A network that is saved after it was wrapped carries them.
"""

import logging
import os
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

_log = logging.getLogger("visionseq.saving")
Value = TypeVar("Value")

INSERTED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
IN_FRONT = "module."
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


def plain_state(state: Mapping[str, Value], source: str | os.PathLike) -> dict[str, Value]:
    """The state under the names of the network alone; what was removed is logged once, with `source`.

    A part that wrappers insert is removed wherever it stands, `module.` where every name begins with it. Where two
    names would become one, the state stays as it is.
    """
    if not all(isinstance(name, str) for name in state):
        return dict(state)
    names = {name: plain_name(name) for name in state}
    in_front = [name for name in names.values() if name.startswith(IN_FRONT)]
    others = names.keys() - {COUNTER}
    if in_front and len(in_front) == len(others):
        names = {name: names[name].removeprefix(IN_FRONT) for name in others}
    if len(set(names.values())) < len(names) or all(name == plain for name, plain in names.items()):
        return dict(state)
    parts = sorted({part for name, plain in names.items() if name != plain for part in _removed(name, plain)})
    _log.warning("%s: removed %s from the names of its entries, which a wrapper put there", source, ", ".join(parts))
    return {plain: state[name] for name, plain in names.items()}


def plain_name(name: str) -> str:
    """The name without the parts that wrappers insert."""
    return ".".join(part for part in name.split(".") if part not in INSERTED)


def names_in(module: nn.Module) -> dict[str, str]:
    """Plain name -> name in the module's state, which differs where parts of the module are wrapped."""
    return {plain_name(name): name for name in module.state_dict()}


def plain_state_of(module: nn.Module) -> dict[str, Tensor]:
    """The module's state under plain names, to be saved."""
    return {plain_name(name): tensor for name, tensor in module.state_dict().items()}


def _removed(name: str, plain: str) -> set[str]:
    parts = {f"`{part}.`" for part in name.split(".") if part in INSERTED}
    return parts | ({f"`{IN_FRONT}`"} if len(plain_name(name)) > len(plain) else set())
