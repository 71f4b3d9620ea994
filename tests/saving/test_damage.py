"""Files of weights that are damaged or broken: named on reading, never loaded in silence."""

import contextlib
import io

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import visionseq
from visionseq.errors import CheckpointError
from visionseq.rectified_flow.model import EDMVelocity
from visionseq.rectified_flow.residual_mlp import ResidualMLP
from visionseq.saving.weights import load_state, read_checkpoint, write_safetensors


def small_model() -> EDMVelocity:
    return EDMVelocity(ResidualMLP(img_resolution=4, in_channels=1, hidden=8, num_blocks=1))


def archive(checksums: bool = True) -> bytes:
    file = io.BytesIO()
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save({"w": torch.linspace(0, 1, 50), "n": 3, "names": ["a", "b"]}, file)
    finally:
        torch.serialization.set_crc32_options(True)
    return file.getvalue()


def is_the_original(content: object) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == {"w", "n", "names"}
        and torch.equal(content["w"], torch.linspace(0, 1, 50))
        and (content["n"], content["names"]) == (3, ["a", "b"])
    )


ARCHIVE = archive()


@given(st.integers(0, 8 * len(ARCHIVE) - 1))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_of_an_archive_is_named_or_harmless(tmp_path, bit):
    content = bytearray(ARCHIVE)
    content[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):  # any other error fails
        assert is_the_original(read_checkpoint(path))


def test_a_flipped_bit_within_a_tensor_is_named(tmp_path):
    content = bytearray(ARCHIVE)
    content[ARCHIVE.index(torch.linspace(0, 1, 50).numpy().tobytes()) + 81] ^= 4
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"x\.pth is damaged: the content of .*/data/0 does not match its checksum"
    ):
        read_checkpoint(tmp_path / "x.pth")


def test_an_archive_without_checksums_is_read(tmp_path):
    (tmp_path / "x.pth").write_bytes(archive(checksums=False))
    assert is_the_original(read_checkpoint(tmp_path / "x.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named_and_neither_saved_nor_loaded(tmp_path, value):
    model = small_model()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.model.output.weight[0, 0] = value
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"EDMVelocity holds weights that are not finite: model\.output\.weight"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    write_safetensors(tmp_path / "model.safetensors", model.state_dict())
    with pytest.raises(CheckpointError, match=r"model\.safetensors holds weights that are not finite: model\.output"):
        visionseq.load(tmp_path)


def test_buffers_may_hold_infinities_but_no_nan():
    module = nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    load_state(module, {"mask": torch.tensor([-float("inf"), 0.0])}, "x")
    assert module.mask[0] == -float("inf")
    with pytest.raises(CheckpointError, match="x holds weights that are not finite: mask"):
        load_state(module, {"mask": torch.tensor([float("nan"), 0.0])}, "x")
