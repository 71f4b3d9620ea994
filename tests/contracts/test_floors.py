"""The house has floors; a module imports only from the floors below its own, rooms never from each other, and no chain
of imports between files leads back to its beginning, whether they stand at the top of a file or inside a function."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from visionseq.rooms import room_names

ROOT = Path(__file__).resolve().parents[2]
ROOMS = set(room_names())
FLOORS = (
    {"errors", "files", "pixels", "places", "progress", "rooms", "lazy", "text_files", "npz", "data_check"},
    {"kernels"},
    {"optim", "saving"},
    {"nn", "geometry", "metrics"},
    {"flow", "data", "viz", "zoo"},
    ROOMS,
    {"integrations", "convert", "training", "claims", "benchmarks"},
    {"cli"},
)
LEVEL = {area: level for level, floor in enumerate(FLOORS) for area in floor}
SPECIAL = {"visionseq", "visionseq.__main__"}  # lazy names; the command's entry


@cache
def modules() -> dict[str, Path]:
    """Every source of the package by its module's name."""
    files = [("visionseq", path) for path in (ROOT / "visionseq").rglob("*.py")]
    files += [("visionseq.kernels", path) for path in (ROOT / "kernels").rglob("*.py")]
    return {module_name(package, path): path for package, path in files}


def module_name(package: str, path: Path) -> str:
    folder = ROOT / package.rpartition(".")[2]
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join((package, *parts)).removesuffix(".__init__")


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of `known` that a file imports, also inside functions; imports for type checkers do not count."""
    tree = ast.parse(path.read_text(), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name if name in known else node.module for name in names}
    return modules & known.keys()


def area_of(module: str) -> str:
    return module.split(".")[1]


@cache
def graph() -> dict[str, set[str]]:
    return {module: imports_of(path, modules()) for module, path in modules().items() if module not in SPECIAL}


def test_every_area_has_a_floor():
    assert {area_of(module) for module in graph()} <= LEVEL.keys()


@pytest.mark.parametrize("area", sorted(LEVEL))
def test_imports_go_down(area):
    for module, imported in graph().items():
        if area_of(module) != area:
            continue
        for other in imported - SPECIAL:
            where = f"{module} imports {other}"
            assert LEVEL[area_of(other)] <= LEVEL[area], f"{where}, which stands above it"
            assert area == area_of(other) or not {area, area_of(other)} <= ROOMS, (
                f"{where}: rooms share code through the floors below"
            )


def test_areas_of_one_floor_do_not_import_in_circles():
    areas: dict[str, set[str]] = {}
    for module, imported in graph().items():
        areas.setdefault(area_of(module), set()).update(area_of(other) for other in imported - SPECIAL)
    refuse_circles({area: others - {area} for area, others in areas.items()})


def test_files_do_not_import_in_circles():
    refuse_circles(graph())


def refuse_circles(imports: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}") from None


def test_a_circle_inside_functions_is_noticed(tmp_path):
    sources = {"visionseq.a": "import visionseq.b", "visionseq.b": "def f():\n    from visionseq import a"}
    known = {name: tmp_path / f"{name}.py" for name in sources}
    for name, path in known.items():
        path.write_text(sources[name])
    with pytest.raises(AssertionError, match=r"visionseq.[ab] -> visionseq.[ab] -> visionseq.[ab]"):
        refuse_circles({name: imports_of(path, known) for name, path in known.items()})
