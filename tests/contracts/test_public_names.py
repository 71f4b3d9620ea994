"""Public names load when they are first used; type checkers read the same list from the `__init__.pyi` beside them."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("visionseq/**/__init__.pyi"))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_loads_from_where_its_stub_says(package):
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        home = getattr(value, "__module__", None)
        assert home is None or not home.startswith("visionseq.") or hasattr(sys.modules[home], name)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        _ = module.nothing_of_the_kind


def test_lazy_packages_have_a_stub_and_nothing_else_does():
    lazy = {path.parent for path in ROOT.glob("visionseq/**/__init__.py") if "lazy_names(__name__)" in path.read_text()}
    assert {ROOT.joinpath(*package.split(".")) for package in PACKAGES} == lazy


@pytest.mark.parametrize(("package", "name"), [("visionseq.lion", "LionTask"), ("visionseq.metrics", "KittiAP")])
def test_a_name_without_its_extra_says_which_one_brings_it(package, name):
    code = f"""
import sys
sys.modules["lightning"] = sys.modules["torchmetrics"] = None
from visionseq.errors import ConfigError
import {package}
try:
    {package}.{name}
except ConfigError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "`pip install 'visionseq[train]'` brings it" in result.stdout, result.stderr
