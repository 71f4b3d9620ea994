"""All cases of all operators, one file of `cases/` for each operator."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from operator_case import OperatorCase

FOLDER = Path(__file__).parent / "cases"


def _load(path: Path) -> ModuleType:
    name = f"kernel_cases_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


MODULES = {path.stem: _load(path) for path in sorted(FOLDER.glob("*.py"))}
CASES: list[OperatorCase] = [case for module in MODULES.values() for case in module.CASES]
ONE_PER_OPERATOR: list[OperatorCase] = [module.CASES[0] for module in MODULES.values()]
