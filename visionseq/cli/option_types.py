"""Types of options that Python's own types do not express, and how to look into a type."""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin


@dataclass(frozen=True)
class AtLeast:
    """The smallest value of a number; stands in `Annotated` beside its type."""

    minimum: int


PositiveInt = Annotated[int, AtLeast(1)]


def without_none(annotation: Any) -> Any:
    """The annotation without `| None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def option(name: str) -> str:
    """A parameter's name as it is typed: `--num-samples`."""
    return f"--{name.replace('_', '-')}"
