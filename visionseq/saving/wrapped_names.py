"""Names of a state without what wrappers put into them.

torch.compile, FSDP and activation checkpointing insert a part of their own; DataParallel, DistributedDataParallel and
torch's averaged models put `module.` in front of every name. A network that is saved after it was wrapped carries them.
"""

import logging
import os
from collections.abc import Collection, Mapping
from typing import TypeVar

from torch import Tensor, nn

_log = logging.getLogger("visionseq.saving")
Value = TypeVar("Value")

INSERTED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
IN_FRONT = "module."
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


def plain_state(
    state: Mapping[str, Value], source: str | os.PathLike, expected: Collection[str] | None = None
) -> dict[str, Value]:
    """The state under the names of the network alone; removed parts of names are logged once, with `source`.

    A part that wrappers insert is removed wherever it stands, `module.` where every name begins with it. Where two
    names would become one, or none more of the `expected` names is found, the state stays unchanged.
    """
    if not all(isinstance(name, str) for name in state):
        return dict(state)
    # The plain name of each entry; an average's counter belongs to its wrapper.
    names = {name: plain_name(name) for name in state}
    in_front = [name for name in names.values() if name.startswith(IN_FRONT)]
    others = names.keys() - {COUNTER}
    if in_front and len(in_front) == len(others):
        names = {name: names[name].removeprefix(IN_FRONT) for name in others}
    # Nothing changes where that is ambiguous or of no use.
    plain = set(names.values())
    if len(plain) < len(names) or all(before == after for before, after in names.items()):
        return dict(state)
    if expected is not None and len(plain.intersection(expected)) <= len(state.keys() & set(expected)):
        return dict(state)
    parts = sorted({part for before, after in names.items() if before != after for part in _removed(before, after)})
    _log.warning("%s: removed %s from the names of its entries, which a wrapper put there", source, ", ".join(parts))
    return {after: state[before] for before, after in names.items()}


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
