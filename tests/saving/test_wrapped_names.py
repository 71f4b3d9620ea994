"""States of wrapped networks: torch.compile, data parallelism, averages and checkpointing leave marks in the names."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

import visionseq
from visionseq import convert, rooms
from visionseq.errors import CheckpointError
from visionseq.rectified_flow.model import EDMVelocity, build_network
from visionseq.saving.weights import load_state, read_safetensors

SONG = {
    "unet_type": "songunet",
    **{"img_resolution": 8, "in_channels": 1, "out_channels": 1, "label_dim": 0, "model_channels": 16},
    **{"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []},
}
MLP = {"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1, "hidden": 8, "num_blocks": 1}
WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "compiled, then data parallel": lambda module: nn.DataParallel(torch.compile(module)),
    "data parallel, then compiled": lambda module: torch.compile(nn.DataParallel(module)),
}
wrappers = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=list(WRAPPERS))
inner_wrappers = pytest.mark.parametrize("wrap", [torch.compile, checkpoint_wrapper], ids=["compiled", "recomputed"])


def velocity() -> EDMVelocity:
    model = EDMVelocity(build_network(MLP))
    for tensor in model.state_dict().values():
        tensor.normal_()
    return model


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@wrappers
def test_a_state_of_a_wrapped_network_loads_and_says_so_once(wrap, caplog):
    source, target = velocity(), velocity()
    expected = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    with caplog.at_level(logging.WARNING, "visionseq.saving"):
        load_state(target, wrap(source).state_dict(), "mine.pth")
    assert same(target.state_dict(), expected)
    (record,) = caplog.records
    assert record.getMessage().startswith("mine.pth: removed `")


@inner_wrappers
def test_a_plain_state_loads_into_a_wrapped_network_without_a_word(wrap, caplog):
    source, target = velocity(), velocity()
    target.model = wrap(target.model)
    load_state(target, source.state_dict(), "mine.pth")
    assert all(map(torch.equal, target.parameters(), source.parameters()))
    assert not caplog.records


@inner_wrappers
def test_a_network_that_the_user_wrapped_is_saved_under_plain_names(wrap, tmp_path):
    model = velocity()
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.model = wrap(model.model)
    model.save_pretrained(tmp_path)
    assert same(read_safetensors(tmp_path / "model.safetensors"), expected)
    assert same(visionseq.load(tmp_path).state_dict(), expected)


@wrappers
def test_official_files_of_wrapped_networks_convert_and_come_back_plain(wrap, tmp_path, caplog):
    original = convert.from_official("rectified_flow", *official())
    torch.save({"model_state_dict": wrap(original).state_dict()}, tmp_path / "wrapped.pth")
    with caplog.at_level(logging.WARNING, "visionseq.saving"):
        state = convert.read_official("rectified_flow", tmp_path / "wrapped.pth")
        converted = convert.from_official("rectified_flow", state, SONG)
    assert len(caplog.records) == 1
    assert same(converted.state_dict(), original.state_dict())
    converted.model = torch.compile(converted.model)
    assert same(convert.to_official("rectified_flow", converted), official()[0])


def test_a_module_that_is_called_module_keeps_its_name(caplog):
    network = nn.Sequential()
    network.add_module("module", nn.Linear(2, 2))
    load_state(network, network.state_dict(), "mine.pth")
    assert not caplog.records
    with pytest.raises(CheckpointError, match=r"missing +module\.weight"):
        load_state(network, {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, "mine.pth")


def test_names_that_would_meet_stay_as_they_are():
    state = {"weight": torch.zeros(2, 2), "_orig_mod.weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"unexpected +_orig_mod\.weight"):
        load_state(nn.Linear(2, 2), state, "mine.pth")
    some = {"module.weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"unexpected +module\.weight"):
        load_state(nn.Linear(2, 2), some, "mine.pth")


def official() -> tuple[dict[str, torch.Tensor], dict]:
    generator = torch.Generator().manual_seed(0)
    state = rooms.converter("rectified_flow").build(SONG).state_dict()
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}, SONG
