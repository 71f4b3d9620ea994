"""`visionseq zoo` and `visionseq doctor` on small indexes of their own."""

import hashlib
from pathlib import Path

import pytest
import yaml

from visionseq.cli import main

ABOUT = {
    "room": "rectified_flow",
    "model": "EDMVelocity",
    "description": "A flow.",
    "licence": "MIT",
    "parameters": 1234567,
    "numbers": {"distance": 1.5},
}
CONTENTS = {"model.safetensors": (2).to_bytes(8, "little") + b"{}", "config.json": b"{}"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of one model whose files lie in another folder."""
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    files = {}
    for name, content in CONTENTS.items():
        (tmp_path / "served").mkdir(exist_ok=True)
        (tmp_path / "served" / name).write_bytes(content)
        source = (tmp_path / "served" / name).as_uri()
        files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "sources": [source]}
    (tmp_path / "index.yaml").write_text(
        yaml.safe_dump({"format": 1, "models": {"tiny-flow": {**ABOUT, "files": files}}})
    )
    return tmp_path / "index.yaml"


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_list_and_info(index, capsys):
    code, out, _ = run(capsys, "zoo", "list", "--index", index)
    assert code == 0
    assert out.splitlines()[1].split() == ["tiny-flow", "rectified_flow", "1,234,567", "0.0", "MB", "MIT"]
    assert run(capsys, "zoo", "list", "t*", "--index", index)[0] == 0
    assert run(capsys, "zoo", "list", "x*", "--index", index)[0] == 1
    code, out, _ = run(capsys, "zoo", "info", "tiny-flow", "--index", index)
    for part in ("A flow.", "1,234,567", "distance", "1.5", "not yet: visionseq zoo download tiny-flow", "file://"):
        assert part in out


def test_official_weights_are_listed_apart_and_told_how_to_convert(capsys):
    code, out, _ = run(capsys, "zoo", "list", "lion-rwkv-*")
    assert code == 0
    row = ["lion-rwkv-argoverse2", "lion", "21,917,258", "convert"]
    assert out.splitlines()[1].split()[:4] == row
    assert out.splitlines()[1].endswith("weights under the terms of Argoverse 2, CC BY-NC-SA 4.0")
    command = "visionseq convert lion FILE.pth lion-rwkv-argoverse2 --preset lion_rwkv_1f_1x_argo_128dim_sparse_v2"
    code, out, _ = run(capsys, "zoo", "info", "lion-rwkv-argoverse2")
    assert code == 0
    for part in ("https://github.com/happinesslz/LION", "Apache-2.0", "41.1", command):
        assert part in out
    for words in (("download",), ("path",), ("verify",)):
        code, _, error = run(capsys, "zoo", *words, "lion-rwkv-argoverse2")
        assert code == 1
        assert command in error


def test_download_path_verify(index, tmp_path, capsys):
    code, _, error = run(capsys, "zoo", "path", "tiny-flow", "--index", index)
    assert code == 1
    assert "was not fetched yet" in error
    assert str(tmp_path / "cache") in error
    assert "absent" in run(capsys, "zoo", "verify", "--index", index)[1]

    code, out, _ = run(capsys, "zoo", "download", "tiny-flow", "--index", index)
    folder = Path(out.strip())
    assert code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    assert run(capsys, "zoo", "path", "tiny-flow", "--index", index)[1].strip() == str(folder)
    code, out, _ = run(capsys, "zoo", "verify", "tiny-flow", "--index", index)
    assert (code, out.count("ok")) == (0, 2)

    (folder / "config.json").write_bytes(b"[]")
    code, out, error = run(capsys, "zoo", "verify", "--index", index)
    assert code == 1
    assert "damaged: tiny-flow/config.json" in error
    run(capsys, "zoo", "download", "tiny-flow", "--force", "--index", index)
    assert (folder / "config.json").read_bytes() == b"{}"


def test_download_to_a_folder(index, tmp_path, capsys):
    code, out, _ = run(capsys, "zoo", "download", "tiny-flow", "--out", tmp_path / "mine", "--index", index)
    assert (code, out.strip()) == (0, str(tmp_path / "mine"))
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(CONTENTS)


def test_doctor_names_backends_extras_and_folders(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    for part in ("torch", "cpu  ", "reference on cpu", "triton", "train", "images", f"{tmp_path / 'cache'}: writable"):
        assert part in out or (part == "reference on cpu" and "cpu on cpu" in out)
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("VISIONSEQ_BACKEND", "triton")
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "NOT writable" in out
    assert "VISIONSEQ_BACKEND=triton" in out
