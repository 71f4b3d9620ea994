"""Names of a package that are imported when they are first used (PEP 562).

A package lists its public names once, as imports in its `__init__.pyi`. Type checkers and editors read that file, so a
name has its real type; `lazy_names` reads where each name lives. `__init__.py` then says

    __getattr__, __dir__, __all__ = lazy_names(__name__)
"""

import ast
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from visionseq.errors import import_extra

EXTRAS = {"lightning": "train", "torchmetrics": "train"}  # packages that a name may need -> the extra that brings them


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose `__init__.pyi` imports its public names.

    A name that needs a package which is not installed raises `ConfigError` with the extra that brings it.
    """
    homes = _homes(package)

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(homes[name]), name)
        except ModuleNotFoundError as error:
            if error.name in EXTRAS:
                import_extra(error.name, EXTRAS[error.name])
            raise

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names, sorted(homes)


def _homes(package: str) -> dict[str, str]:
    """Public name -> module that it is imported from."""
    folder = os.path.dirname(str(sys.modules[package].__file__))
    with open(os.path.join(folder, "__init__.pyi"), encoding="utf-8") as stub:
        imports = [node for node in ast.parse(stub.read()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
