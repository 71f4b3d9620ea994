"""What must not be imported too early: the package, the zoo's index and the command line answer without torch."""

import os
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "torch._dynamo",
    "lightning",
    "timm",
    "diffusers",
    "matplotlib",
    "numba",
    "sklearn",
    "transformers",
    "torchvision",
    "scipy",
)
LIGHT_MODULES = (
    "visionseq",
    "visionseq.errors",
    "visionseq.files",
    "visionseq.places",
    "visionseq.data",
    "visionseq.zoo",
    "visionseq.zoo.index",
    "visionseq.zoo.store",
    "visionseq.cli",
    "visionseq.cli.console",
    "visionseq.cli.help_page",
    "visionseq.cli.zoo",
)


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def heavy_after(code: str) -> set[str]:
    return set(
        run_python(f"{code}\nimport sys; print('\\n', *(name for name in {HEAVY} if name in sys.modules))").split()
    ) & set(HEAVY)


def test_light_modules_import_nothing_heavy():
    assert heavy_after("\n".join(f"import {module}" for module in LIGHT_MODULES)) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["zoo", "list"],
        ["zoo", "--help"],
        ["zoo", "info", "--help"],
        ["doctor", "--help"],
        ["fit", "--help"],
        ["sample", "--help"],
    ],
)
def test_commands_that_only_tell_import_nothing_heavy(arguments):
    assert heavy_after(f"from visionseq.cli import main\nassert main({arguments}) == 0") == set()


def test_index_is_listed_without_torch():
    assert heavy_after("import visionseq\nvisionseq.list_models()\nvisionseq.list_models('rf-*')") == set()


def test_lazy_names_resolve():
    names = run_python(
        "import visionseq\nfor name in visionseq.__all__: getattr(visionseq, name)\nprint(*dir(visionseq))"
    )
    assert {"load", "list_models", "pipeline", "from_official", "__version__"} <= set(names.split())


def test_unknown_name_is_an_attribute_error():
    import visionseq
    import visionseq.zoo

    name = "no_such_name"
    for module in (visionseq, visionseq.zoo):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_the_kernels_alone_need_torch_alone():
    """Whoever comes for the kernels pays neither for training nor for a compiler that is not used yet."""
    assert heavy_after("from visionseq.kernels import linear_scan") == {"torch"}
