"""`visionseq fit | validate | test | predict` as they are typed, with the room's own task and data."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import visionseq
from visionseq.cli import main
from visionseq.training.metrics_file import read_metrics

TEACHER = {
    "model": {
        "class_path": "visionseq.rectified_flow.TeacherTask",
        "init_args": {
            "network": {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 16, "num_blocks": 1},
            "optimizer": {"lr": 1e-3, "warmup_steps": 2},
            "sample_steps": [2],
        },
    },
    "data": {
        "class_path": "visionseq.data.ImageData",
        "init_args": {
            "dataset": {"class_path": "visionseq.data.Digits", "init_args": {"split": "train"}},
            "eval_dataset": {"class_path": "visionseq.data.Digits", "init_args": {"split": "test"}},
            "batch_size": 32,
            "limit": 100,
        },
    },
    "ema": 0.9,
    "log_every": 2,
    "trainer": {"max_steps": 8, "accelerator": "cpu"},
}


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    """A small teacher in a file of its own; runs go below the folder of the test."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "teacher.yaml"
    path.write_text(yaml.safe_dump(TEACHER))
    return path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def assert_same_files(run: str, other: str) -> None:
    for name in ("metrics.csv", "model/model.safetensors"):
        assert Path(run, name).read_bytes() == Path(other, name).read_bytes()


def test_a_run_from_a_file_leaves_everything_and_says_where(config, capsys):
    assert run("fit", "--config", config) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "run folder: runs/teacher"
    folder = Path("runs/teacher")
    names = {"config.yaml", "environment.txt", "commit.txt", "metrics.csv", "checkpoints", "samples", "model"}
    assert names <= {path.name for path in folder.iterdir()}
    assert visionseq.load(folder).label_dim == 0
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["model"]["init_args"]["optimizer"]["betas"] == [0.9, 0.999]
    assert resolved["run_dir"] == "runs/teacher"


def test_the_resolved_config_repeats_the_run_to_the_bit(config):
    assert run("fit", "--config", config, "--run-dir", "first") == 0
    assert run("fit", "--config", "first/config.yaml", "--run_dir=second") == 0
    assert_same_files("first", "second")


def test_files_merge_from_left_to_right_and_arguments_win(config, tmp_path):
    (tmp_path / "longer.yaml").write_text("trainer: {max_steps: 6}\nmodel: {init_args: {seed: 5}}\n")
    assert run("fit", "-c", config, "-c", "longer.yaml", "--data.init_args.batch_size", 16) == 0
    resolved = yaml.safe_load(Path("runs/teacher/config.yaml").read_text())
    assert (resolved["trainer"]["max_steps"], resolved["model"]["init_args"]["seed"]) == (6, 5)
    assert resolved["data"]["init_args"]["batch_size"] == 16


def test_an_interrupted_run_exits_with_130_and_goes_on_where_it_stopped(config, tmp_path, capsys):
    interrupt = tmp_path / "interrupt.yaml"
    interrupt.write_text("trainer: {callbacks: [{class_path: tiny_task.Interrupt, init_args: {step: 4}}]}\n")
    assert run("fit", "-c", config, "-c", interrupt) == 130
    assert torch.load("runs/teacher/checkpoints/last.ckpt", weights_only=True)["global_step"] == 5
    assert run("fit", "-c", config, "--ckpt_path", "last") == 0
    assert run("fit", "-c", config, "--run_dir", "whole") == 0
    assert_same_files("runs/teacher", "whole")


def test_last_before_the_first_checkpoint_is_the_beginning(config, capsys):
    assert run("fit", "-c", config, "--ckpt_path", "last") == 0
    assert "starting from the beginning" in capsys.readouterr().out
    assert len(read_metrics(Path("runs/teacher/metrics.csv"))) == 4 + 2  # two epochs of three batches end in validation


def test_an_earlier_run_is_not_overwritten_unless_told(config, capsys):
    assert run("fit", "-c", config) == 0
    assert run("fit", "-c", config) == 1
    assert "holds an earlier run; resume it with --ckpt_path last" in capsys.readouterr().err
    assert run("fit", "-c", config, "--trainer.max_steps", 4, "--overwrite") == 0
    assert read_metrics(Path("runs/teacher/metrics.csv"))[-1]["step"] == "4"


def test_a_changed_configuration_is_not_resumed_unless_told(config, capsys):
    assert run("fit", "-c", config, "--trainer.max_steps", 4) == 0
    changed = ("fit", "-c", config, "--model.init_args.optimizer.lr", 0.01, "--ckpt_path", "last")
    assert run(*changed) == 1
    message = capsys.readouterr().err
    assert "model.init_args.optimizer.lr: 0.001 -> 0.01" in message
    assert "max_steps" not in message
    assert run(*changed, "--resume_changed") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trainer.max_stepps", "3"], "max_stepps"),
        (["--trainer.max_steps", "many"], "many"),
        (["--data.init_args.batchsize", "3"], "batchsize"),
        (["--model.class_path", "visionseq.rectified_flow.Nothing"], "Nothing"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_a_wrong_argument_costs_one_line_and_code_2(config, capsys, words, told):
    assert run("fit", "-c", config, *words) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ckpt_path", "nowhere.ckpt"], "found no checkpoint nowhere.ckpt"),
        (["--ckpt_path", "weights.safetensors"], "holds weights only"),
        (["--model.init_args.optimizer.lr", "-1"], "optimizer: lr -1"),
        (
            ["--trainer.accumulate_grad_batches", "2", "--trainer.limit_train_batches", "1"],
            "an epoch has 1 batches, expected a multiple",
        ),
    ],
)
def test_an_error_of_ours_is_a_sentence_and_code_1(config, capsys, words, told):
    Path("weights.safetensors").write_bytes(b"x")
    assert run("fit", "-c", config, *words) == 1
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message


def test_help_has_examples_and_print_config_a_file_that_parses(config, capsys):
    assert run("fit", "--help") == 0
    page = capsys.readouterr().out
    assert "visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml --ckpt_path last" in page
    with pytest.raises(SystemExit) as ended:
        run("fit", "--help-all")
    assert not ended.value.code
    shown = capsys.readouterr().out
    options = set(re.findall(r"^  (--\w+) ", page, re.MULTILINE))
    assert options >= {"--config", "--run_dir", "--ckpt_path", "--overwrite", "--print_config"}
    assert all(option in shown for option in options)
    with pytest.raises(SystemExit) as ended:
        run("fit", "-c", config, "--print_config")
    assert not ended.value.code
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_steps"] == 8


def test_the_other_verbs_take_a_run_a_model_folder_or_a_checkpoint(config, capsys):
    assert run("fit", "-c", config) == 0
    measured = set()
    for source in ([], ["--ckpt_path", "runs/teacher/model"], ["--ckpt_path", "runs/teacher/checkpoints/last.ckpt"]):
        capsys.readouterr()
        assert run("validate", "-c", config, *source) == 0
        measured.add(next(line for line in capsys.readouterr().out.splitlines() if "val/loss" in line))
    assert len(measured) == 1
    assert run("test", "-c", config) == 0
    assert "test/loss" in capsys.readouterr().out
    assert run("predict", "-c", config) == 0
    files = sorted(Path("runs/teacher/predictions").iterdir())
    images = np.concatenate([np.load(file)["prediction"] for file in files])
    index = np.concatenate([np.load(file)["index"] for file in files])
    assert images.shape == (100, 1, 8, 8)
    assert sorted(index) == sorted(set(index))


def test_predictions_of_another_checkpoint_are_not_mixed_with_earlier_ones(config, capsys):
    assert run("fit", "-c", config) == 0
    assert run("predict", "-c", config) == 0
    earlier = {path.name: path.read_bytes() for path in Path("runs/teacher/predictions").iterdir()}
    few = ("predict", "-c", config, "--data.init_args.limit", 40)
    assert run(*few) == 1
    assert "predictions holds earlier predictions; replace them with --overwrite" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("runs/teacher/predictions").iterdir()} == earlier
    assert run(*few, "--overwrite") == 0
    assert len(list(Path("runs/teacher/predictions").iterdir())) < len(earlier)


def test_measuring_without_a_checkpoint_is_an_error(config, capsys):
    assert run("validate", "-c", config) == 1
    assert "runs/teacher has no checkpoint; name a run" in capsys.readouterr().err


def test_a_trial_of_a_few_batches_leaves_nothing(config):
    assert run("fit", "-c", config, "--trainer.fast_dev_run", "true") == 0
    assert not Path("runs").exists()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_flags_for_precision_and_memory_train(config, precision):
    words = ["--trainer.precision", precision, "--activation_checkpointing", "--trainer.gradient_clip_val", "1.0"]
    assert run("fit", "-c", config, *words) == 0
    assert np.isfinite(float(read_metrics(Path("runs/teacher/metrics.csv"))[-1]["train/loss"]))


@pytest.mark.slow
def test_compiling_trains_and_saves_the_same_names(config):
    assert run("fit", "-c", config, "--compile", "--run_dir", "compiled") == 0
    assert run("fit", "-c", config, "--run_dir", "plain") == 0
    states = [
        torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("compiled", "plain")
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_a_model_of_other_classes_is_refused_and_earlier_predictions_stay(config, verb, capsys):
    settings = yaml.safe_load(config.read_text())
    settings["model"]["init_args"]["network"]["label_dim"] = 10
    config.write_text(yaml.safe_dump(settings))
    assert run("fit", "--config", config, "--trainer.max_steps", 1) == 0
    description = Path("runs/teacher/model/config.json")
    text = description.read_text()
    assert '"0"' in text
    description.write_text(text.replace('"0"', '"zero"'))
    earlier = Path("runs/teacher/predictions/batch_00000000.npz")
    earlier.parent.mkdir()
    earlier.write_bytes(b"earlier")
    assert run(verb, "--config", config, "--ckpt_path", "runs/teacher/model", "--overwrite") == 1
    assert "those of the model are zero, 1" in capsys.readouterr().err
    assert earlier.read_bytes() == b"earlier"
