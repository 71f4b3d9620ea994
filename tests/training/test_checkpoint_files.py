"""Checkpoint files: whole at every moment, two of them, readable without running code, refused with a sentence."""

import contextlib
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_task import tiny_fit

from visionseq.errors import CheckpointError
from visionseq.training.checkpoint_io import (
    AtomicCheckpointIO,
    find_checkpoint,
    keep_previous,
    last_checkpoint,
    read_training_checkpoint,
)


def whole(number: int) -> dict:
    return {"loops": {}, "optimizer_states": [], "state_dict": {"w": torch.full((3,), float(number))}, "number": number}


def test_the_last_checkpoint_and_the_one_before_are_kept(tmp_path):
    last = tmp_path / "last.ckpt"
    for number in range(3):
        AtomicCheckpointIO().save_checkpoint(whole(number), last)
    assert read_training_checkpoint(last)["number"] == 2
    assert read_training_checkpoint(tmp_path / "previous.ckpt")["number"] == 1
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", "previous.ckpt"]


def test_a_kill_between_the_two_renames_loses_neither_file(tmp_path):
    last = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(whole(0), last)
    keep_previous(last)  # and the process is gone
    assert read_training_checkpoint(last)["number"] == 0
    AtomicCheckpointIO().save_checkpoint(whole(1), last)
    assert read_training_checkpoint(last)["number"] == 1
    assert read_training_checkpoint(tmp_path / "previous.ckpt")["number"] == 0
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", "previous.ckpt"]


def test_without_hard_links_a_copy_serves(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    last = tmp_path / "last.ckpt"
    for number in range(2):
        AtomicCheckpointIO().save_checkpoint(whole(number), last)
    assert read_training_checkpoint(tmp_path / "previous.ckpt")["number"] == 0


def test_last_means_previous_only_where_there_is_no_last(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    assert find_checkpoint("last", tmp_path) is None
    (folder / "previous.ckpt").write_bytes(b"")
    assert find_checkpoint("last", tmp_path) == folder / "previous.ckpt"
    (folder / "last.ckpt").write_bytes(b"")
    assert find_checkpoint("last", tmp_path) == last_checkpoint(tmp_path) == folder / "last.ckpt"
    assert find_checkpoint(tmp_path, tmp_path / "elsewhere") == folder / "last.ckpt"


def test_what_cannot_be_resumed_is_refused_with_a_sentence(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    torch.save({"w": torch.zeros(2)}, tmp_path / "weights.pth")
    for path in (tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="holds weights only, no state of optimiser and data: resume from"):
            find_checkpoint(path, tmp_path)
    with pytest.raises(CheckpointError, match=r"weights\.pth holds weights only"):
        tiny_fit(tmp_path / "run", ckpt_path=tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"found no checkpoint .*nowhere\.ckpt; expected"):
        find_checkpoint(tmp_path / "nowhere.ckpt", tmp_path)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_checkpoint_is_named_or_read_whole(tmp_path, data):
    path = tmp_path / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint(whole(7), path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):  # any other error fails
        checkpoint = read_training_checkpoint(path)
        assert checkpoint["number"] == 7
        assert torch.equal(checkpoint["state_dict"]["w"], torch.full((3,), 7.0))


def test_a_checkpoint_of_a_run_loads_without_code_and_says_what_the_model_is(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=8)
    for name in ("last.ckpt", "previous.ckpt"):
        checkpoint = torch.load(tmp_path / "run/checkpoints" / name, weights_only=True)
        described = checkpoint["visionseq"]
        assert (described["format"], described["room"], described["model"]) == (1, "rectified_flow", "EDMVelocity")
        assert described["preprocessing"]["channels"] == 1
        assert "hyper_parameters" not in checkpoint
