"""Helper modules of tests are imported by their bare names, so that two of one name would hide each other."""

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_no_two_helper_modules_have_one_name():
    helpers = [
        path.stem
        for path in TESTS.rglob("*.py")
        if not path.stem.startswith("test_") and path.stem not in ("conftest", "__init__")
        if not (path.parent / "__init__.py").is_file()
    ]
    packages = [path.parent.name for path in TESTS.rglob("__init__.py")]
    assert len(helpers) > 5
    assert [name for name, count in Counter(helpers + packages).items() if count > 1] == []
