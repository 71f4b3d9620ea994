"""Sections of an official configuration that name what is missing, and what would make another network than ours.

`ConfigError` has the path of the section, such as MODEL.DENSE_HEAD.POST_PROCESSING.
"""

from collections.abc import Mapping
from typing import Any

from visionseq.errors import ConfigError

# The values that are implemented of a key, in whichever section it stands.
IMPLEMENTED = {
    "USE_NORM": (True,),
    "CLASS_AGNOSTIC": (False,),
    "IOU_REG_LOSS": (False,),
    "USE_DIRECTION_CLASSIFIER": (True,),
    "DIR_LIMIT_OFFSET": (0,),
    "HEAD_CONV_TYPE": ("subm",),
    "ACTIVATION": ("relu",),
    "MATCH_HEIGHT": (False,),
    "NORM_BY_NUM_EXAMPLES": (False,),
    "POS_FRACTION": (-1,),
    "BOX_CODER": ("ResidualCoder",),
    "MULTI_CLASSES_NMS": (False,),
    "USE_MULTIHEAD": (False,),
    "USE_CONV_FOR_NO_STRIDE": (False,),
    "use_sigmoid": (True,),
}


class Section(dict):
    """A section and those in it; a missing key, or a value that is not implemented, raises `ConfigError`."""

    def __init__(self, values: Any, name: str):
        self.name = name
        if not isinstance(values, Mapping):
            raise ConfigError(f"{name}: {type(values).__name__}, expected a section of names and values")
        super().__init__({key: self._value(key, value) for key, value in values.items()})

    def __missing__(self, key: str) -> Any:
        raise ConfigError(f"{self.name}: {key} is missing")

    def section(self, key: str, optional: bool = False) -> "Section":
        """A section in this one; empty where it is missing and optional."""
        value = Section({}, f"{self.name}.{key}") if optional and self.get(key) is None else self[key]
        if not isinstance(value, Section):
            raise ConfigError(f"{self.name}.{key}: {value!r}, expected a section of names and values")
        return value

    def plain(self, key: str) -> Any:
        """A value with lists in place of tuples, as JSON holds it."""
        return plain(self[key])

    def one_of(self, key: str, choices: Any, default: str) -> str:
        """A name that must be among the choices."""
        name = self.get(key, default)
        if name not in choices:
            raise ConfigError(f"{self.name}: {key} {name!r}, expected one of {', '.join(choices)}")
        return name

    def _value(self, key: str, value: Any) -> Any:
        if key in IMPLEMENTED and value not in IMPLEMENTED[key]:
            raise ConfigError(f"{self.name}: {key} {value!r}, expected {' or '.join(map(str, IMPLEMENTED[key]))}")
        if isinstance(value, Mapping):
            return Section(value, f"{self.name}.{key}")
        if isinstance(value, list | tuple):
            return [Section(item, f"{self.name}.{key}") if isinstance(item, Mapping) else item for item in value]
        return value


def plain(value: Any) -> Any:
    """The same with lists in place of tuples."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
