"""Training: one label draw for a sequence, runs that resume to the bit, latents."""

import pytest
import torch
from tiny_arflow import CONFIG, tiny

from visionseq.arflow import ARFlowTask, SequenceData
from visionseq.arflow.sequences import SequenceBatch
from visionseq.data import Digits
from visionseq.data.latents import LatentShards, LatentWriter
from visionseq.data.seeding import GlobalDraw
from visionseq.errors import ConfigError
from visionseq.flow import SampleFrechet
from visionseq.flow.task import RowDraw
from visionseq.optim.factory import OptimizerConfig
from visionseq.training import fit

OPTIMIZER = OptimizerConfig(lr=1e-3, name="adamw", betas=(0.9, 0.95), weight_decay=0.02, decay_vectors=False)
DIGITS = {**CONFIG, "input_size": 8, "patch_size": 4, "num_classes": 10}


def task(**changes: object) -> ARFlowTask:
    torch.manual_seed(0)
    return ARFlowTask({**DIGITS, **changes}, OPTIMIZER, sample_steps=[3])


def batch(rows: int = 8) -> SequenceBatch:
    generator = torch.Generator().manual_seed(2)
    return SequenceBatch(torch.randn(rows, 5, 1, 4, 4, generator=generator), torch.arange(rows) % 3, torch.arange(rows))


def recording(share: float) -> tuple[ARFlowTask, list[torch.Tensor], list[torch.Tensor]]:
    """A task with a random network, and the times and classes that the network is called with."""
    made, times, labels = ARFlowTask(CONFIG, OPTIMIZER), [], []
    made.model = tiny(class_dropout_prob=share)

    def record(module, inputs, output) -> None:
        times.append(inputs[1])
        labels.append(inputs[2])

    made.model.register_forward_hook(record)
    return made, times, labels


def test_classes_are_dropped_for_whole_sequences_and_in_training_alone():
    made, _, labels = recording(0.25)
    for step in range(100):
        made.train().loss(batch(), GlobalDraw(0, step))
    dropped = (torch.stack(labels) == 3).float().mean()
    assert labels[0].shape == (8,)
    assert 0.2 < dropped < 0.3
    labels.clear()
    made.eval().loss(batch(), RowDraw(0, torch.arange(8)))
    assert labels[0].equal(batch().label)


def test_times_rise_in_each_sequence_and_are_uniform():
    made, times, _ = recording(0.1)
    for step in range(100):
        made.loss(batch(), GlobalDraw(0, step))
    all_times = torch.cat(times)
    assert (all_times.diff(dim=1) >= 0).all()
    torch.testing.assert_close(all_times.mean(0), torch.arange(1, 6) / 6, atol=0.03, rtol=0)


def test_two_processes_compute_the_loss_of_one():
    made, whole = recording(0.5)[0].train(), batch()
    parts = []
    for rank in range(2):
        part = SequenceBatch(whole.image[rank::2], whole.label[rank::2], whole.index[rank::2])
        parts.append(made.loss(part, GlobalDraw(0, 7, rank=rank, world=2)).item())
    assert sum(parts) / 2 == pytest.approx(made.loss(whole, GlobalDraw(0, 7)).item(), rel=1e-5)


def run(folder, steps: int, **options):
    metric = SampleFrechet("features-digits", every_n_steps=4, num_samples=10, steps=[2])
    made = task()
    made._metrics = [metric]
    data = SequenceData(Digits(), 8, eval_dataset=Digits("test"), eval_batch_size=180, flip=True, samples_per_epoch=40)
    return fit(
        made,
        data,
        max_steps=steps,
        run_dir=folder,
        ema=0.9,
        checkpoint_every=3,
        picture_every=3,
        log_every=1,
        accelerator="cpu",
        progress=False,
        gradient_clip_val=3.0,
        gradient_clip_algorithm="value",
        **options,
    )


def test_a_run_resumes_to_the_bit(tmp_path):
    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "parts", 3)
    parts = run(tmp_path / "parts", 6, ckpt_path="last")
    for name, tensor in whole.state_dict().items():
        assert tensor.equal(parts.state_dict()[name]), name
    assert parts.preprocessing["kind"] == "image"


def test_latents_train(tmp_path):
    LatentWriter(tmp_path, encoder="test").write(
        torch.randn(30, 4, 4, 4), torch.arange(30) % 3, torch.randn(30, 4, 4, 4)
    )
    made = ARFlowTask({**CONFIG, "in_channels": 4}, OPTIMIZER)
    before = made.model.final_layer.linear.weight.clone()
    data = SequenceData(LatentShards(tmp_path), 4, flip=True)
    model = fit(made, data, max_steps=3, accelerator="cpu", progress=False)
    assert not model.final_layer.linear.weight.equal(before)
    assert model.preprocessing["kind"] == "latent"


def test_an_argument_that_the_network_lacks_is_named():
    with pytest.raises(ConfigError, match=r"network: .*depths"):
        ARFlowTask({"depths": 3}, OPTIMIZER)
