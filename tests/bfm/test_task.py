"""Both stages: what they draw, what they train, how they resume, what they refuse."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import NETWORK, tiny_batch, tiny_model
from training import OPTIMIZER, first_stage, images, run

import visionseq
from visionseq.bfm.task import BFMTask, FRNTask
from visionseq.data import Digits, ImageData
from visionseq.data.batch import ImageBatch
from visionseq.data.seeding import GlobalDraw
from visionseq.errors import CheckpointError, ConfigError
from visionseq.flow.task import VALIDATION_SEED, RowDraw
from visionseq.saving.weights import read_safetensors, write_safetensors
from visionseq.training import fit
from visionseq.training.metrics_file import read_metrics


@pytest.fixture
def stage_one(tmp_path) -> str:
    tiny_model().save_pretrained(tmp_path / "one")
    return str(tmp_path / "one")


def test_rows_are_cut_by_position_and_times_lie_in_their_segments():
    task = first_stage()
    rows, order = task.draw_rows(tiny_batch(8), GlobalDraw(1))
    assert order.tolist() == list(range(8))
    assert rows.segment.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert ((1 - rows.t) * 3 >= rows.segment - 1e-6).all()
    assert ((1 - rows.t) * 3 <= rows.segment + 1 + 1e-6).all()


@pytest.mark.parametrize("batch", [9, 8])
def test_two_processes_see_the_losses_of_one(batch):
    task, whole = first_stage(), tiny_batch(2 * batch)
    task.model.load_state_dict(tiny_model().state_dict())
    halves = [
        task.loss(ImageBatch(**{k: v[rank::2] for k, v in vars(whole).items()}), GlobalDraw(5, rank=rank, world=2))
        for rank in (0, 1)
    ]
    torch.testing.assert_close(sum(halves) / 2, task.loss(whole, GlobalDraw(5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", ["first", "second"])
def test_the_loss_of_an_evaluation_does_not_depend_on_the_batch(stage, stage_one):
    task = FRNTask(stage_one, OPTIMIZER, 1) if stage == "second" else first_stage()
    task.model.load_state_dict({**task.model.state_dict(), **tiny_model().state_dict()})
    task.eval()
    batch = tiny_batch(6)

    def total(size: int) -> float:
        parts = [ImageBatch(**{k: v[i : i + size] for k, v in vars(batch).items()}) for i in range(0, 6, size)]
        return sum(task.loss(part, RowDraw(VALIDATION_SEED, part.index)).item() * size for part in parts)

    assert total(2) == pytest.approx(total(6), rel=1e-5)


def test_alignment_lowers_the_loss_by_the_cosine():
    batch = Digits().batch(torch.arange(8).numpy())
    sizes = {**NETWORK, "context_size": 8, "num_classes": 10, "dim_projection": 32}

    def loss(weight: float) -> float:
        torch.manual_seed(0)
        return BFMTask(sizes, OPTIMIZER, "features-digits", weight).loss(batch, GlobalDraw(2)).item()

    assert loss(0.0) != loss(1.0)
    assert abs(loss(1.0) - loss(0.0)) <= 1
    task = BFMTask(sizes, OPTIMIZER, "features-digits", 1.0)
    assert all(name.startswith("model.") for name in task.state_dict())
    task.loss(batch, GlobalDraw(2)).backward()
    assert task.model.linear_projection[0].weight.grad.any()


def test_the_second_stage_trains_the_frn_alone(stage_one):
    task = FRNTask(stage_one, OPTIMIZER, 2)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    loss = task.loss(tiny_batch(6), GlobalDraw(3))
    trained = fit(task, ImageData(images(), 6), max_steps=3, ema=None, progress=False)
    assert loss.isfinite()
    changed = {name for name, tensor in trained.state_dict().items() if not tensor.equal(before[name])}
    assert changed
    assert all(name.startswith("frn_blocks.") for name in changed)
    first = visionseq.load(stage_one).state_dict()
    assert set(before) - set(first) == {name for name in before if name.startswith("frn_blocks.")}
    assert all(before[name].equal(tensor) for name, tensor in first.items())


def test_a_first_stage_with_other_entries_is_refused(stage_one):
    with pytest.raises(ConfigError, match="features-digits is a FeatureCNN, expected a BFM"):
        FRNTask("features-digits", OPTIMIZER)
    file = Path(stage_one) / "model.safetensors"
    state = read_safetensors(file)
    write_safetensors(file, {name: tensor for name, tensor in state.items() if name != "x_embedder.proj.bias"})
    with pytest.raises(CheckpointError, match=r"1 missing[\s\S]*x_embedder.proj.bias"):
        FRNTask(stage_one, OPTIMIZER)


def test_a_model_of_the_second_stage_is_no_first_stage(tmp_path):
    tiny_model(finetune=True).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has an FRN already"):
        FRNTask(str(tmp_path), OPTIMIZER)
    with pytest.raises(ConfigError, match="FRNTask"):
        first_stage(finetune=True)


def test_tokens_that_do_not_match_the_features_are_refused_before_the_first_step():
    sizes = {**NETWORK, "context_size": 8, "num_classes": 10}
    task = BFMTask(sizes, OPTIMIZER, "features-digits")
    with pytest.raises(ConfigError, match="16 tokens of 32 channels, the model has 16 tokens and dim_projection 5"):
        task.check_data(ImageData(Digits(), 4))


def test_both_stages_resume_exactly(tmp_path):
    run(first_stage(), tmp_path / "one", 6)
    run(first_stage(), tmp_path / "parts", 3)
    run(first_stage(), tmp_path / "parts", 6, ckpt_path="last")
    assert read_metrics(tmp_path / "parts/metrics.csv") == read_metrics(tmp_path / "one/metrics.csv")
    same_run(tmp_path / "one", tmp_path / "parts")

    def second(folder: str, steps: int, **options) -> None:
        torch.manual_seed(7)
        run(FRNTask(str(tmp_path / "one"), OPTIMIZER, 1), tmp_path / folder, steps, **options)

    second("frn", 4)
    second("frn parts", 2)
    second("frn parts", 4, ckpt_path="last")
    same_run(tmp_path / "frn", tmp_path / "frn parts")


def same_run(run_folder: Path, other: Path) -> None:
    states = [torch.load(path / "checkpoints/last.ckpt", weights_only=True) for path in (run_folder, other)]
    for part in ("state_dict", "ema"):
        assert states[0][part].keys() == states[1][part].keys()
        for name, value in states[0][part].items():
            assert value.equal(states[1][part][name]), name


def test_too_few_rows_for_the_segments_of_each_process_are_refused():
    task = first_stage()
    trainer = SimpleNamespace(datamodule=ImageData(images(), 4), world_size=2, strategy=SimpleNamespace(_ddp_kwargs={}))
    task._trainer = trainer
    with pytest.raises(ConfigError, match="2 rows in each process for 3 segments"):
        task.setup("fit")
    trainer.strategy._ddp_kwargs["find_unused_parameters"] = True
    task.setup("fit")


@pytest.mark.slow
def test_two_processes_train_like_one_also_where_segments_are_absent(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("training.py")
    subprocess.run([*launcher, str(script), str(tmp_path)], check=True, env=environment)
    run(first_stage(), tmp_path / "one", 4)
    rows, expected = (read_metrics(tmp_path / name / "metrics.csv") for name in ("whole", "one"))
    for row, other in zip(rows, expected, strict=True):
        for name, value in other.items():
            assert float(row[name]) == pytest.approx(float(value), rel=1e-5), name
    run(first_stage(), tmp_path / "one absent", 4, batch_size=4)
    states = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("absent", "one absent")
    ]
    for name, value in states[0]["state_dict"].items():
        torch.testing.assert_close(value, states[1]["state_dict"][name], rtol=1e-4, atol=1e-6)
    assert visionseq.load(tmp_path / "frn").has_frn
