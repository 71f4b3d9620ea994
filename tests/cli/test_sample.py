"""`visionseq sample`: files, repeatability, and one line for what does not fit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from visionseq.cli import main
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.viz import to_uint8


def save_model(folder, kind=EDMVelocity, label_dim: int = 0):
    torch.manual_seed(0)
    network = build_network(
        {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 16, "label_dim": label_dim}
        if label_dim
        else {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 16}
    )
    kind(network).save_pretrained(folder)
    return str(folder)


def arrays(folder) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def model(tmp_path) -> str:
    return save_model(tmp_path / "model")


def test_writes_grid_npz_and_pictures(model, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["sample", model, "--num-samples", "5", "--out", str(out), "--png", "--seed", "2"]) == 0
    (images,) = arrays(out).values()
    assert images.shape == (5, 8, 8, 1)
    assert images.dtype == np.uint8
    assert [path.name for path in sorted((out / "images").iterdir())] == [f"{i:06d}.png" for i in range(5)]
    assert np.array_equal(np.asarray(Image.open(out / "images" / "000003.png")), images[3, :, :, 0])
    assert Image.open(out / "grid.png").size == (3 * 66 + 2, 2 * 66 + 2)
    printed = capsys.readouterr().out
    assert "5 images" in printed
    assert "seed 2" in printed
    assert str(out / "grid.png") in printed


def test_images_are_those_of_the_models_sampler(model, tmp_path):
    import visionseq
    from visionseq.data.seeding import generator_for

    main(["sample", "--model", model, "--num-samples", "2", "--steps", "3", "--seed", "5", "--out", str(tmp_path)])
    noise = torch.stack([torch.randn(1, 8, 8, generator=generator_for(5, i)) for i in range(2)])
    expected = to_uint8(visionseq.load(model).sample(noise, 3))
    assert np.abs(arrays(tmp_path)["arr_0"][..., 0] - expected[:, 0].numpy().astype(int)).max() <= 1


def test_seed_decides_and_batch_size_does_not(model, tmp_path):
    def images(name: str, *options: str) -> np.ndarray:
        assert main(["sample", model, "--num-samples", "7", "--out", str(tmp_path / name), *options]) == 0
        return arrays(tmp_path / name)["arr_0"].astype(int)

    first = images("a", "--batch-size", "7")
    assert np.abs(images("b", "--batch-size", "2") - first).max() <= 1  # matrix products round by batch
    assert np.array_equal(images("c", "--batch-size", "7"), first)
    assert not np.array_equal(images("d", "--seed", "1"), first)


def test_teachers_are_sampled_by_their_own_ode(tmp_path):
    teacher = save_model(tmp_path / "teacher", EDMDenoiser)
    assert main(["sample", teacher, "--num-samples", "2", "--steps", "2", "--out", str(tmp_path / "out")]) == 0
    assert arrays(tmp_path / "out")["arr_0"].shape == (2, 8, 8, 1)


def test_works_from_another_folder_without_a_network(model, tmp_path):
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from visionseq.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "sample", "../model", "--num-samples", "4", "--steps", "1"]
    (tmp_path / "elsewhere").mkdir()
    result = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "elsewhere" / "out" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--num-samples", "0"], 2, "num_samples"),
        (["--solver", "rk45"], 2, "solver"),
        (["--class-label", "3"], 1, "unconditional"),
        (["--out", "a-file/out"], 1, "a-file"),
    ],
)
def test_one_line_for_what_does_not_fit(model, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    assert main(["sample", model, *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert message.replace("_", "-") in error.replace("_", "-")
    assert "\n" not in error
