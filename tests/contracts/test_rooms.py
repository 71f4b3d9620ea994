"""Every room has the same furniture, and it works: presets build, checkpoints convert both ways, a config trains."""

import inspect
import shutil
from pathlib import Path

import pytest
import torch
from room_furniture import missing_furniture, training_configs

import visionseq
from visionseq import convert, rooms
from visionseq.cli import main
from visionseq.errors import ConfigError
from visionseq.saving.pretrained import PretrainedModel
from visionseq.zoo.table import ROOMS, model_class

ROOT = Path(__file__).resolve().parents[2]
every_room = pytest.mark.parametrize("room", rooms.room_names())


def test_rooms_are_found_by_their_folders():
    assert {"lion", "rectified_flow"} <= set(rooms.room_names()) <= set(ROOMS)


@every_room
def test_no_piece_is_missing(room):
    assert missing_furniture(ROOT, room) == []


@every_room
def test_what_a_file_may_name_is_a_model_of_the_room(room):
    for name in __import__(f"visionseq.{room}", fromlist=["LOADABLE"]).LOADABLE:
        cls = model_class(room, name, "test")
        assert issubclass(cls, PretrainedModel)
        assert (cls.room, cls.__name__) == (room, name)


@every_room
def test_presets_build(room):
    part = rooms.converter(room)
    assert part.presets()
    for name, config in part.presets().items():
        with torch.device("meta"):
            model = part.build(config)
        assert part.preprocessing_of(model)["kind"], name


@every_room
def test_an_official_state_converts_both_ways(room):
    part = rooms.converter(room)
    with torch.device("meta"):
        config = min(part.presets().values(), key=lambda config: size(part.build(config)))
    torch.manual_seed(0)
    state = {name: random_like(tensor) for name, tensor in part.to_official(part.build(config)).items()}
    converted = convert.from_official(room, state, config)
    assert not converted.training
    assert shapes(part.build(convert.official_config(room, converted))) == shapes(converted)
    assert converted.preprocessing == part.preprocessing_of(converted)
    for name, tensor in convert.to_official(room, converted).items():
        assert torch.equal(tensor, state[name]), name


@every_room
def test_its_licence_and_its_files_are_described(room):
    licence, sentence = convert.licence(room)
    assert licence
    assert sentence.endswith(".")
    state = {"w": torch.zeros(2)}
    assert rooms.converter(room).unwrap(state) is state


@every_room
def test_the_first_command_of_its_readme_trains(room, tmp_path, monkeypatch, capsys):
    config = ROOT / training_configs(ROOT, room)[0]
    monkeypatch.chdir(tmp_path)
    arguments = ("--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu")
    assert main(["fit", "--config", str(config), *arguments]) == 0, capsys.readouterr().err


@every_room
def test_its_claim_and_its_benchmark_can_be_called(room):
    claim = rooms.claim(room)
    assert claim.DATA
    assert list(inspect.signature(claim.run).parameters) == ["data", "out", "work", "seeds", "progress"]
    sections = rooms.benchmark(room).sections()
    assert sections
    assert all(callable(section) for section in sections.values())


@every_room
def test_an_entry_of_the_zoo_loads(room, monkeypatch):
    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    names = [name for name in visionseq.list_models() if visionseq.zoo.info(name).room == room]
    assert visionseq.load(names[0]).room == room


@pytest.mark.parametrize("kind", ["converter", "claim", "benchmark"])
def test_an_unknown_name_is_answered_with_the_nearest(kind):
    with pytest.raises(ConfigError, match="did you mean rectified_flow"):
        getattr(rooms, kind)("rectified_flows")
    with pytest.raises(ConfigError, match=r"expected one of .*lion, .*rectified_flow"):
        getattr(rooms, kind)("xyz")


PIECES = (
    *(f"visionseq/lion/{name}" for name in ("convert.py", "README.md", "__init__.py")),
    *("visionseq/claims/lion", "visionseq/benchmarks/lion", "docs/rooms/lion.md", "configs/lion"),
    *("model_zoo/index.yaml", "visionseq/zoo/table.py", "README.md", "CHANGELOG.md"),
)


@pytest.mark.parametrize("piece", PIECES)
def test_a_half_built_room_fails(piece, tmp_path):
    for path in (*PIECES, "visionseq/lion/model.py", "visionseq/lion/task.py"):
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / path, tmp_path / path)
    assert missing_furniture(tmp_path, "lion") == []
    target = tmp_path / piece
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert any(piece in line for line in missing_furniture(tmp_path, "lion"))


def test_a_half_built_room_is_a_sentence_for_the_user(tmp_path, monkeypatch):
    folder = tmp_path / "half"
    folder.mkdir()
    for name in ("__init__.py", "model.py", "task.py"):
        (folder / name).write_text("")
    monkeypatch.setattr(visionseq, "__path__", [*visionseq.__path__, str(tmp_path)])
    assert "half" in rooms.room_names()
    with pytest.raises(ConfigError, match=r"'half' is incomplete: visionseq\.half\.convert is missing"):
        convert.preset_configs("half")


def shapes(model: PretrainedModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def size(model: PretrainedModel) -> int:
    return sum(tensor.numel() for tensor in model.state_dict().values())


def random_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.rand_like(tensor) if tensor.is_floating_point() else tensor.clone()
