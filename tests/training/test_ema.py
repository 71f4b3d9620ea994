"""The averaged weights: their definition, where they are seen, and what of them is kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Callback
from tiny_task import TinyTask, tiny_data, tiny_fit
from torch import nn

import visionseq
from visionseq.errors import CheckpointError, ConfigError
from visionseq.training import Average, fit

RAMPUPS = st.one_of(st.none(), st.floats(0.01, 2))


@given(st.integers(0, 5), st.floats(0, 0.999), RAMPUPS, st.lists(st.floats(-10, 10), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_average_follows_its_definition(start, highest, rampup, weights):
    module = nn.Linear(1, 1, bias=False)
    average, expected = Average(module, highest, start, rampup), None
    for number, weight in enumerate(weights):
        nn.init.constant_(module.weight, weight)
        average.update(number)
        decay = highest if rampup is None or number == 0 else min(highest, 2 ** (-1 / (rampup * number)))
        if number >= start:
            expected = weight if expected is None else decay * expected + (1 - decay) * weight
    if expected is None:
        assert not average.shadow
    else:
        assert average.shadow["weight"].item() == pytest.approx(expected, abs=1e-4)


def test_parameters_are_averaged_and_buffers_are_not():
    module = nn.BatchNorm1d(2)
    average = Average(module, 0.5, start_update=1)
    average.update(1)
    assert set(average.shadow) == {"weight", "bias"}


def test_showing_the_average_and_hiding_it_leaves_both_exactly_as_they_were():
    module = nn.Linear(3, 3)
    average = Average(module, 0.9, start_update=1)
    average.update(1)
    nn.init.normal_(module.weight)
    average.update(2)
    weights, shadow = module.weight.detach().clone(), average.shadow["weight"].clone()
    with average.shown():
        assert torch.equal(module.weight, shadow)
        with average.shown(False):
            assert torch.equal(module.weight, weights)
        assert torch.equal(module.weight, shadow)
    assert torch.equal(module.weight, weights)
    assert torch.equal(average.shadow["weight"], shadow)


@pytest.mark.parametrize("updates", [30, 300, 3000])
def test_the_average_of_a_short_run_is_not_that_of_its_first_updates(updates):
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, 0.9999)
    for number in range(1, updates + 1):
        nn.init.constant_(module.weight, float(number))
        average.update(number)
    # The half-life is a twentieth of the run, so the average lags behind by less than a tenth.
    assert 0.9 * updates < average.shadow["weight"].item() < updates


def test_a_long_run_has_the_decay_that_was_asked_for():
    average = Average(nn.Linear(1, 1), 0.999)
    assert average.decay_of(1000) < 0.999 == average.decay_of(20_000)


def test_weights_in_half_precision_have_an_average_that_small_steps_move():
    module = nn.Linear(1, 1, bias=False).bfloat16()
    average = Average(module, 0.9999, start_update=1, rampup=None)
    nn.init.constant_(module.weight, 1.0)
    average.update(1)
    nn.init.constant_(module.weight, 2.0)
    for number in range(2, 102):
        average.update(number)
    assert average.shadow["weight"].item() == pytest.approx(2 - 0.9999**100, rel=1e-4)


@pytest.mark.parametrize(("decay", "start", "rampup"), [(1.0, 3, None), (-0.1, 3, None), (0.9, -1, 1), (0.9, 3, 0)])
def test_values_that_make_no_average_are_refused(decay, start, rampup):
    with pytest.raises(ConfigError, match=r"EMA (decay|rampup)"):
        Average(nn.Linear(1, 1), decay, start, rampup)


class Witness(Callback):
    """What the model holds during training and during validation, and the average recomputed from the weights."""

    def __init__(self, decay: float):
        self.decay, self.average, self.seen, self.updates = decay, None, [], 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        weights = pl_module.model.model.output.weight.detach().clone()
        if trainer.global_step == 3:
            self.average = weights
        elif trainer.global_step > 3:
            decay = min(self.decay, 0.5 ** (20 / trainer.global_step))
            self.average = decay * self.average + (1 - decay) * weights

    def on_validation_batch_end(self, trainer, pl_module, *_):
        if self.average is not None:
            torch.testing.assert_close(pl_module.model.model.output.weight, self.average)
            self.seen.append(trainer.global_step)


def test_validation_and_the_result_have_the_average_that_starts_at_the_third_update():
    witness = Witness(0.8)
    model = fit(
        TinyTask(),
        tiny_data(),
        max_steps=25,
        ema=0.8,
        callbacks=[witness],
        accelerator="cpu",
        progress=False,
        check_val_every_n_epoch=None,
        val_check_interval=10,
    )
    assert set(witness.seen) == {10, 20}
    torch.testing.assert_close(model.model.output.weight, witness.average)
    assert not model.training


def test_a_run_folder_loads_as_the_average_and_resumes_from_the_raw_weights(tmp_path):
    model = tiny_fit(tmp_path / "run", max_steps=20)
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    for loaded in (visionseq.load(tmp_path / "run"), visionseq.load(tmp_path / "run/model")):
        for name, parameter in loaded.named_parameters():
            assert torch.equal(parameter, checkpoint["ema"][name]), name
            assert torch.equal(parameter, dict(model.named_parameters())[name]), name
            assert not torch.equal(parameter, checkpoint["state_dict"][f"model.{name}"]), name


def test_a_run_folder_and_its_model_give_the_raw_weights_on_request(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=20)
    raw = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for path in ("run", "run/checkpoints/last.ckpt", "run/model"):
        loaded = visionseq.load(tmp_path / path, weights="raw")
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, raw[f"model.{name}"]), (path, name)


def test_a_run_without_average_has_one_set_of_weights(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=6, ema=None)
    assert not (tmp_path / "run/model/model.raw.safetensors").exists()
    for weights in ("ema", "raw"):
        visionseq.load(tmp_path / "run", weights=weights)


class SaveInValidation(Callback):
    def __init__(self, path):
        self.path = path

    def on_validation_batch_end(self, trainer, pl_module, *_):
        trainer.save_checkpoint(self.path, weights_only=False)


def test_a_checkpoint_written_within_a_validation_holds_the_raw_weights(tmp_path):
    options = {"accelerator": "cpu", "progress": False, "check_val_every_n_epoch": None, "val_check_interval": 10}
    save = SaveInValidation(tmp_path / "inside.ckpt")
    fit(TinyTask(), tiny_data(), max_steps=10, ema=0.8, callbacks=[save], **options)
    inside = torch.load(tmp_path / "inside.ckpt", weights_only=True)
    tiny_fit(tmp_path / "run", max_steps=10, ema=0.8)
    outside = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    for name, value in outside["state_dict"].items():
        assert torch.equal(inside["state_dict"][name], value), name
    for name, value in outside["ema"].items():
        assert torch.equal(inside["ema"][name], value), name


def test_an_average_of_another_model_is_refused(tmp_path):
    tiny_fit(tmp_path / "run", max_steps=10)
    file = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["ema"]["somewhere.else"] = checkpoint["ema"].pop("model.output.weight")
    torch.save(checkpoint, file)
    with pytest.raises(CheckpointError, match=r"model\.output\.weight, somewhere\.else"):
        tiny_fit(tmp_path / "run", ckpt_path="last")
