"""The house has floors; a module imports only from the floors below its own, and rooms never from each other."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"arflow", "bfm", "rectified_flow", "sit", "lion", "plstm", "raptor", "event_flow"}
FLOORS = (
    {"errors", "files", "places"},
    {"kernels"},
    {"optim", "saving"},
    {"nn", "geometry", "metrics"},
    {"flow", "data", "viz", "zoo"},
    ROOMS,
    {"integrations", "convert", "pipelines", "training", "claims", "benchmarks"},
    {"cli"},
)
LEVEL = {area: level for level, floor in enumerate(FLOORS) for area in floor}
SPECIAL = {"__init__", "__main__"}  # lazy names; the command's entry


def modules() -> list[tuple[str, Path]]:
    """(area, file) of every source of the package."""
    found = [("kernels", path) for path in (ROOT / "kernels").rglob("*.py")]
    for path in (ROOT / "visionseq").rglob("*.py"):
        area = path.relative_to(ROOT / "visionseq").parts[0].removesuffix(".py")
        found += [(area, path)] if area not in SPECIAL else []
    return found


def imported_areas(path: Path) -> set[str]:
    """Areas of visionseq that a file imports, also inside functions; imports for type checkers do not count."""
    tree = ast.parse(path.read_text(), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    areas = {name.split(".")[1] for name in names if name.startswith("visionseq.")}
    return areas & LEVEL.keys()


def test_every_area_has_a_floor():
    assert {area for area, _ in modules()} <= LEVEL.keys()


@pytest.mark.parametrize("area", sorted(LEVEL))
def test_imports_go_down(area):
    for owner, path in modules():
        if owner != area:
            continue
        for other in imported_areas(path) - {area}:
            where = f"{path.relative_to(ROOT)} ({area}) imports visionseq.{other}"
            assert LEVEL[other] <= LEVEL[area], f"{where}, which stands above it"
            assert not {area, other} <= ROOMS, f"{where}: rooms share code through the floors below"


def test_areas_of_one_floor_do_not_import_in_circles():
    graph: dict[str, set[str]] = {}
    for area, path in modules():
        graph.setdefault(area, set()).update(imported_areas(path) - {area})
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
