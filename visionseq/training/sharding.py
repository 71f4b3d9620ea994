"""Whole tensors from the parts that FSDP has spread over the processes, and back."""

from collections.abc import Mapping

import torch
from lightning import Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType

_TASK_PREFIX = "model."  # a task keeps its model under this name


def is_sharded(trainer: Trainer) -> bool:
    """Whether each process holds a part of every parameter."""
    return isinstance(trainer.strategy, FSDPStrategy)


def gather(trainer: Trainer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Whole parameters on rank 0 and an empty dict on the other ranks; every rank calls it."""
    state = trainer.strategy.lightning_module_state_dict()
    return {name: state[_TASK_PREFIX + name] for name in parameters if _TASK_PREFIX + name in state}


@torch.no_grad()
def scatter(trainer: Trainer, parameters: Mapping[str, nn.Parameter], whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This rank's part of each whole tensor; the parameters keep their values."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    state = {_TASK_PREFIX + name: tensor for name, tensor in whole.items()}
    sharded = trainer.strategy.model
    assert sharded is not None  # the strategy has wrapped it before the first parameter was restored
    with FullyShardedDataParallel.state_dict_type(
        sharded, StateDictType.FULL_STATE_DICT, FullStateDictConfig(rank0_only=False)
    ):
        sharded.load_state_dict(state, strict=False)
    parts = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        parameter.copy_(before[name])
    return parts
