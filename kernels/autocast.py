"""Operators compute in the precision of their arguments, whatever autocast says: the layers decide what runs half."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """The function with autocast off on the device of its first tensor."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        main = next(tensors, None)
        if main is None or not torch.is_autocast_enabled(main.device.type):
            return function(*args, **kwargs)
        with torch.autocast(main.device.type, enabled=False):
            return function(*args, **kwargs)

    return call


def autocast_off(device: str) -> AbstractContextManager:
    """A context in which autocast is off on a type of device."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
