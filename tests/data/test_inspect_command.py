"""`visionseq inspect` on every kind of data set, through the command line."""

import numpy as np
import pytest
import torch
from PIL import Image

from visionseq.cli.console import run
from visionseq.data.decode import encode_png
from visionseq.data.latents import LatentWriter
from visionseq.data.pairs.noise import draw_noise
from visionseq.data.pairs.opening import open_pair_writer
from visionseq.data.prepare import items_of, write_shards

SHAPE = (3, 8, 8)


def pixels(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8))


@pytest.fixture
def photos(tmp_path):
    for number, image in enumerate(pixels(5)):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image))
    return tmp_path / "photos"


def test_digits(tmp_path, capsys):
    assert run(["inspect", "digits", "--out", str(tmp_path / "x.png"), "--limit", "300"]) == 0
    shown = capsys.readouterr().out
    assert "Digits: 1797 samples, 300 of them read, 0 bad" in shown
    assert "values: -1.000 to 1.000" in shown
    assert "  9: 180" in shown
    assert Image.open(tmp_path / "x.png").size[0] > 8 * 64


def test_image_folder_with_a_bad_file(photos, tmp_path, capsys):
    (photos / "a" / "2.png").write_bytes(b"damaged")
    assert run(["inspect", str(photos), "--size", "8", "--out", str(tmp_path / "x.png")]) == 1
    shown = capsys.readouterr()
    assert "5 samples, 5 of them read, 1 bad" in shown.out
    assert "  a: 3\n  b: 2" in shown.out
    assert "DataError" in shown.err
    assert "2.png" in shown.err
    assert run(["inspect", str(photos), "--size", "8", "--skip-corrupt"]) == 0
    assert "first bad: " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["zip", "shards", "latents", "tar"])
def test_other_kinds(kind, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    records, noise = draw_noise(0, 0, 20, SHAPE)
    if kind == "latents":
        LatentWriter(folder, ["a", "b"]).write(torch.randn(20, 4, 8, 8) * 5, torch.arange(20) % 2)
    elif kind == "tar":
        write_shards([(number % 2, item) for number, item in enumerate(items_of(photos))], folder, 8, ["a", "b"])
    else:
        with open_pair_writer(folder, kind, {"class_names": ["a", "b"]}) as writer:
            writer.write(0, pixels(20), torch.arange(20) % 2, noise, records)
    assert run(["inspect", str(folder), "--size", "8", "--out", str(tmp_path / "x.png")]) == 0
    shown = capsys.readouterr().out
    assert "samples" in shown
    assert "x 8 x 8" in shown
    assert "  a: " in shown
    assert Image.open(tmp_path / "x.png").size[1] > (5 if kind in ("zip", "shards") else 1) * 64  # noise below images


def test_what_cannot_be_inspected(tmp_path, capsys):
    (tmp_path / "x.bin").write_bytes(b"x")
    (tmp_path / "half" / "parts").mkdir(parents=True)
    messages = {
        tmp_path / "x.bin": "expected a folder",
        tmp_path / "no": "no such file",
        tmp_path / "half": "unfinished",
    }
    for name, message in messages.items():
        assert run(["inspect", str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err
    assert run(["inspect", "fashion_mnist", "--split", "all"]) == 1
    assert "fashion_mnist has train, test" in capsys.readouterr().err
