"""`visionseq sample`: files, repeatability, and one line for what does not fit."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from visionseq.cli import main
from visionseq.cli.sample import class_number
from visionseq.cli.sample_files import SampleFiles
from visionseq.errors import ConfigError
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
        (["--class-label", "cat"], 1, "keeps no names"),
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


KILLED = """
import os, signal, sys
import visionseq.cli.sample as command
draw, left = command._batch, int(sys.argv.pop(1))
def killed(*arguments):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return draw(*arguments)
command._batch = killed
from visionseq.cli import main
from visionseq.cli.sample import class_number
from visionseq.cli.sample_files import SampleFiles
from visionseq.errors import ConfigError
sys.exit(main(sys.argv[1:]))
"""


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [(), ("--png",)])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, options):
    model = save_model(tmp_path / "model", label_dim=3)
    words = ["sample", model, "--num-samples", "11", "--batch-size", "3", "--steps", "2", *options, "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    for batches in ("2", "1"):
        command = [sys.executable, "-c", KILLED, batches, *words, str(tmp_path / "killed")]
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "samples.npz").exists()
    assert main([*words, str(tmp_path / "killed")]) == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert len(arrays(tmp_path / "killed")["arr_0"]) == 11


def test_an_unfinished_run_is_not_mixed_with_another(model, tmp_path, capsys):
    out = tmp_path / "out"
    words = [model, "--num-samples", "4", "--batch-size", "2", "--steps", "1", "--out", str(out)]
    subprocess.run([sys.executable, "-c", KILLED, "1", "sample", *words], capture_output=True, timeout=120)
    before = files_of(out)
    assert main(["sample", *words, "--seed", "1"]) == 1
    error = capsys.readouterr().err
    assert "seed 0 -> 1" in error
    assert "--overwrite" in error
    assert files_of(out) == before
    assert main(["sample", *words, "--seed", "1", "--overwrite"]) == 0
    assert set(files_of(out)) == {"grid.png", "samples.npz"}


def test_results_of_another_model_are_neither_replaced_nor_mixed(model, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["sample", model, "--num-samples", "5", "--png", "--steps", "1", "--out", str(out)]) == 0
    before = files_of(out)
    other = save_model(tmp_path / "other", EDMDenoiser)
    assert main(["sample", other, "--num-samples", "2", "--png", "--out", str(out)]) == 1
    assert "samples.npz exists; --overwrite replaces it" in capsys.readouterr().err
    assert files_of(out) == before
    (out / "samples.npz").unlink()
    (out / "grid.png").unlink()
    (out / "images" / "mine.png").write_bytes(b"mine")
    assert main(["sample", other, "--num-samples", "2", "--png", "--out", str(out)]) == 1
    assert "000000.png exists" in capsys.readouterr().err
    assert main(["sample", other, "--num-samples", "2", "--png", "--steps", "2", "--out", str(out), "--overwrite"]) == 0
    names = {"grid.png", "samples.npz", "images/000000.png", "images/000001.png", "images/mine.png"}
    assert set(files_of(out)) == names


def test_two_processes_do_not_draw_into_one_folder(model, tmp_path, capsys):
    with SampleFiles(tmp_path / "out", png=False, overwrite=False):
        assert main(["sample", model, "--out", str(tmp_path / "out")]) == 1
    assert "another process" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence_and_the_images_so_far_stay(model, tmp_path):
    """A limit on the size of files stands for the disk; 30 images fit, the npz of all does not."""
    code = (
        "import resource, sys\n"
        "from visionseq.cli import main\n"
        "import torch, visionseq.viz\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["sample", model, "--num-samples", "90", "--batch-size", "30", "--steps", "1", "--out", "out"]
    result = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "out/grid.png cannot be written: File too large" in result.stderr
    assert len(list((tmp_path / "out" / ".unfinished").glob("*.npz"))) == 3


def test_a_class_may_be_named(tmp_path):
    torch.manual_seed(0)
    network = build_network(
        {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 16, "label_dim": 3}
    )
    model = EDMVelocity(network)
    model.preprocessing = {"kind": "image", "class_names": ["cats", "dogs", "7"]}
    model.save_pretrained(tmp_path / "model")

    def drawn(label: str) -> np.ndarray:
        words = ["sample", str(tmp_path / "model"), "--num-samples", "2", "--steps", "1", "--overwrite"]
        assert main([*words, "--class-label", label, "--out", str(tmp_path / "out")]) == 0
        return arrays(tmp_path / "out")["arr_1"]

    assert drawn("dogs").tolist() == [1, 1]
    assert drawn("1").tolist() == [1, 1]
    assert drawn("7").tolist() == [2, 2]
    with pytest.raises(ConfigError, match=r"'dog', expected a class of the model such as dogs"):
        class_number("dog", ["cats", "dogs", "7"])


def test_guidance_by_name(tmp_path):
    import visionseq
    from visionseq.data.seeding import generator_for
    from visionseq.flow.guidance import RatioAware

    model, out = save_model(tmp_path / "model", label_dim=3), tmp_path / "out"
    command = ["sample", model, "--num-samples", "2", "--steps", "3", "--class-label", "1", "--out", str(out)]
    assert main([*command, "--guidance", "raag", "--max-guidance-scale", "9", "--alpha", "3"]) == 0
    noise = torch.stack([torch.randn(1, 8, 8, generator=generator_for(0, i)) for i in range(2)])
    labels = torch.tensor([1, 1])
    expected = visionseq.load(model).sample(noise, 3, labels, guidance=RatioAware(9.0, 3.0))
    plain = visionseq.load(model).sample(noise, 3, labels)
    assert np.abs(arrays(out)["arr_0"][..., 0] - to_uint8(expected)[:, 0].numpy().astype(int)).max() <= 1
    assert not torch.equal(to_uint8(expected), to_uint8(plain))


@pytest.mark.parametrize("kind", [EDMVelocity, EDMDenoiser])
def test_the_probe_prints_ratios_and_writes_nothing(kind, tmp_path, capsys):
    model, out = save_model(tmp_path / "model", kind, label_dim=3), tmp_path / "out"
    assert main(["sample", model, "--num-samples", "4", "--steps", "3", "--probe", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" (0.") == (3 if kind is EDMVelocity else 5)
    assert "suggested: --guidance raag --alpha " in printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "3"], "--alpha: expected together with --guidance"),
        (["--guidance", "cfg"], "--guidance cfg does nothing at scale 1: expected --guidance-scale"),
        (["--guidance", "cfg", "--guidance-scale", "2", "--alpha", "3"], "guidance 'cfg' has no alpha"),
        (["--guidance", "raag"], "RatioAware needs class labels"),
        (["--guidance-scale", "2"], "ClassifierFree needs class labels"),
        (["--probe"], "RatioProbe needs class labels"),
    ],
)
def test_guidance_that_cannot_act(model, tmp_path, capsys, options, message):
    assert main(["sample", model, "--out", str(tmp_path / "out"), *options]) != 0
    assert message in capsys.readouterr().err


def test_a_scale_alone_is_left_to_the_models_sampler():
    """The samplers of latents guide three of four channels by a scale alone."""
    from visionseq.cli.guidance import chosen_guidance
    from visionseq.flow.guidance import ClassifierFree

    assert chosen_guidance(None, {"guidance_scale": 1.5, "alpha": None}) == {"guidance_scale": 1.5}
    assert chosen_guidance(None, {"guidance_scale": 1.0}) == {}
    assert chosen_guidance("cfg", {"guidance_scale": 1.5}) == {"guidance": ClassifierFree(1.5)}
