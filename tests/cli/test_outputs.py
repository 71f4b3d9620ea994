"""No command replaces or mixes results unasked, and what cannot be written is an error before the work begins."""

import hashlib
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from visionseq.cli import main
from visionseq.cli.console import COMMANDS, TRAINER_VERBS, run_function
from visionseq.metrics import FeatureCNN

NO_MODEL = "no-such-model"  # a command that looks for it before its outputs complains of it
# Every command that writes: its words, and the files that it writes below the current folder.
WRITERS = {
    "sample": (["sample", NO_MODEL, "--out", "out"], ["out/samples.npz", "out/grid.png", "out/images/000000.png"]),
    "score": (["score", "absent.npz", "--reference", "digits", "--features", NO_MODEL, "--out", "s.json"], ["s.json"]),
    "score statistics": (
        ["score", "absent.npz", "--reference", "digits", "--features", NO_MODEL, "--save-statistics", "s.npz"],
        ["s.npz"],
    ),
    "detect": (
        ["detect", NO_MODEL, "--input", "scan.bin", "--out", "out", "--save", "json,kitti,bev,html"],
        ["out/scan.json", "out/scan.txt", "out/scan.png", "out/scan.html"],
    ),
    "inspect": (["inspect", "digits", "--out", "digits.png", "--limit", "4"], ["digits.png"]),
    "inspect lidar": (["inspect", "lidar_world", "--out", "a.png", "--limit", "1"], ["a.png", "a_camera.png"]),
    "convert": (
        ["convert", "rectified_flow", "absent.pth", "out"],
        ["out/config.json", "out/model.safetensors", "out/README.md"],
    ),
    "convert back": (["convert", "rectified_flow", NO_MODEL, "a.pth", "--reverse"], ["a.pth", "a.json"]),
    "demo": (["demo", "--out", "demo.png"], ["demo.png"]),
    "claims": (["claims", "lion", "--out", "claims"], ["claims/lion.json", "claims/lion.md"]),
    "benchmark": (["benchmark", "kernels", "--out", "b.json"], ["b.json", "b.md"]),
    "zoo download": (
        ["zoo", "download", "tiny", "--index", "index.yaml", "--out", "mine"],
        ["mine/config.json", "mine/model.safetensors"],
    ),
    "zoo add": (
        ["zoo", "add", "features", "--name", "new", "--index", "zoo/index.yaml"],
        ["zoo/new/config.json", "zoo/new/model.safetensors"],
    ),
}
CASES = [(name, file) for name, (_, files) in WRITERS.items() for file in files]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.zeros((8, 4), np.float32).tofile("scan.bin")
    files = {
        name: {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1, "sources": [f"http://127.0.0.1:9/{name}"]}
        for name in ("model.safetensors", "config.json")
    }
    about = {"room": "lion", "model": "LionDetector", "description": "x", "licence": "MIT", "parameters": 1}
    Path("index.yaml").write_text(yaml.safe_dump({"format": 1, "models": {"tiny": {**about, "files": files}}}))
    return tmp_path


@pytest.mark.parametrize(("name", "file"), CASES)
def test_existing_files_are_kept_and_overwrite_is_named(name, file, capsys):
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(b"earlier")
    assert main(WRITERS[name][0]) == 1
    error = capsys.readouterr().err
    assert file in error
    assert "--overwrite" in error
    assert error.count("\n") == 1
    assert Path(file).read_bytes() == b"earlier"


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.startswith(("zoo", "convert"))])
def test_a_place_that_cannot_be_written_is_an_error_before_the_work(name, capsys):
    words, _ = WRITERS[name]
    Path("file").write_bytes(b"")
    words = [
        word.replace(word, f"file/{word}") if words[index - 1].startswith(("--out", "--save-")) else word
        for index, word in enumerate(words)
    ]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "file" in error
    assert "cannot be written: it is a file" in error
    assert error.count("\n") == 1
    assert Path("file").is_file()


@pytest.mark.parametrize(
    ("script", "words", "file"),
    [
        ("kitti", ["--root", "root"], "root/database/points.npy"),
        ("argoverse2", ["--root", "root"], "root/database/points.npy"),
        ("once", ["--root", "root"], "root/database/points.npy"),
        ("waymo", ["--root", "root"], "root/database/points.npy"),
        ("nuscenes", ["--root", "root"], "root/database/points.npy"),
        ("nuscenes", ["--root", "root", "--val", "val.txt", "--no-database"], "root/train.txt"),
        ("lidar_world", ["--root", "root"], "root/training/velodyne/000000.bin"),
        ("fashion_mnist", ["source", "--out", "root"], "root/t10k-images-idx3-ubyte.gz"),
    ],
)
def test_scripts_that_prepare_data_keep_existing_files(script, words, file, capsys):
    Path("source").mkdir()
    Path("source/t10k-images-idx3-ubyte.gz").write_bytes(b"new")
    Path(file).parent.mkdir(parents=True)
    Path(file).write_bytes(b"earlier")
    path = Path(__file__).parents[2] / "datasets" / script / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"prepare_{script}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert run_function(module.prepare, f"python {path}", words) == 1
    error = capsys.readouterr().err
    assert "root/" in error
    assert "--overwrite" in error
    assert Path(file).read_bytes() == b"earlier"


def test_an_entry_of_the_zoo_is_renewed_on_request_alone(capsys):
    torch.manual_seed(0)
    FeatureCNN().save_pretrained("features")
    words = ["zoo", "add", "features", "--name", "new", "--description", "x", "--licence", "MIT", "--index", "i.yaml"]
    assert main(words) == 0
    before = Path("i.yaml").read_bytes(), Path("new/model.safetensors").read_bytes()
    FeatureCNN().save_pretrained("features")
    assert main(words) == 1
    assert "i.yaml has the entry new already; --overwrite renews it" in capsys.readouterr().err
    assert (Path("i.yaml").read_bytes(), Path("new/model.safetensors").read_bytes()) == before
    assert main([*words, "--overwrite"]) == 0
    assert Path("new/model.safetensors").read_bytes() == Path("features/model.safetensors").read_bytes()


def test_every_command_with_an_output_can_be_told_to_overwrite():
    goes_on = {"pairs", "doctor", "push", "list", "info", "verify", "path"}  # pairs adds to its own, and refuses others
    for command in COMMANDS:
        module = importlib.import_module(f"visionseq.cli.{command}") if command not in TRAINER_VERBS else None
        for name, function in getattr(module, "COMMANDS", {command: getattr(module, command, None)}).items():
            if module is not None and name not in goes_on:
                assert "overwrite" in inspect.signature(function).parameters, f"{command} {name}"
