"""No source reads data in a way that can run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("visionseq", "kernels", "model_zoo", "tools", "datasets")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SERIALISERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval": "runs code",
    "exec": "runs code",
    "yaml.load": "only yaml.safe_load reads files",
    "yaml.full_load": "only yaml.safe_load reads files",
    "yaml.unsafe_load": "only yaml.safe_load reads files",
    "torch.jit.load": "runs code",
    "pd.read_pickle": "runs code",
}
FORBIDDEN_METHODS = {
    "extractall": "members are read one by one with their names checked",
    "load_from_checkpoint": "foreign files are read by visionseq.saving.weights",
}


def offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"line {node.lineno}: imports {name}" for name in names if name.split(".")[0] in SERIALISERS)
        elif isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {reason}" for reason in call_offences(node))


def call_offences(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
        yield "np.load with allow_pickle"
    if name in FORBIDDEN_CALLS:
        yield f"{name}: {FORBIDDEN_CALLS[name]}"
    if name.rpartition(".")[2] in FORBIDDEN_METHODS:
        yield f"{name}: {FORBIDDEN_METHODS[name.rpartition('.')[2]]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_reads_nothing_unsafely(path):
    assert list(offences(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "import pickle",
        "from pickle import loads",
        "import joblib",
        "yaml.load(f, Loader=L)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "archive.extractall(out)",
        "Model.load_from_checkpoint(f)",
        "eval(text)",
    ],
)
def test_the_check_finds(line):
    assert list(offences(line))


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(f, weights_only=True)",
        "yaml.safe_load(f)",
        "np.load(f)",
        "np.load(f, allow_pickle=False)",
        "model.eval()",
    ],
)
def test_the_check_lets_pass(line):
    assert not list(offences(line))
