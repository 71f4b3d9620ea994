"""The training stream against Lightning itself: stopped in mid-epoch, saved, resumed."""

import itertools

import lightning
import numpy as np
import pytest
import torch

from visionseq.data.image_data import ImageData
from visionseq.data.images import MemoryImages
from visionseq.data.loader import LoaderOptions

BATCH, LENGTH = 4, 22  # 5 batches to an epoch, and the stream's own borders fall within batches


class Recorder(lightning.LightningModule):
    """A tiny model that notes which samples it was given."""

    def __init__(self, fail_at: int | None = None):
        super().__init__()
        self.layer = torch.nn.Linear(64, 1)
        self.seen: list[tuple[int, ...]] = []
        self.fail_at = fail_at

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("stopped within a step")
        self.seen.append((batch_idx, *batch.index.tolist(), round(float(batch.image.double().sum()), 6)))
        return self.layer(batch.image.flatten(1)).mean()

    def validation_step(self, batch, batch_idx):
        self.layer(batch.image.flatten(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def make_data(workers: int = 0, persistent: bool = False, **keywords) -> ImageData:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (LENGTH, 1, 8, 8), dtype=np.uint8))
    loader = LoaderOptions(num_workers=workers, persistent_workers=persistent, start_method="fork" if workers else None)
    return ImageData(
        MemoryImages(images), BATCH, eval_dataset=MemoryImages(images), flip=True, loader=loader, **keywords
    )


def make_trainer(folder, **keywords) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"enable_checkpointing": False, "limit_val_batches": 2, "num_sanity_val_steps": 0, **keywords},
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> list[tuple]:
    model = Recorder()
    make_trainer(tmp_path_factory.mktemp("whole"), max_steps=17).fit(model, make_data())
    return model.seen


def test_an_epoch_of_the_trainer_cuts_the_stream_without_losing_samples(uninterrupted):
    assert [batch[0] for batch in uninterrupted] == [*range(5), *range(5), *range(5), 0, 1]
    stream = [index for batch in uninterrupted for index in batch[1:-1]]
    assert sorted(stream[:LENGTH]) == sorted(stream[LENGTH : 2 * LENGTH]) == list(range(LENGTH))
    assert stream[:LENGTH] != stream[LENGTH : 2 * LENGTH]


@pytest.mark.parametrize("stop", [1, 5, 8, 10])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_resume_after_max_steps(tmp_path, uninterrupted, stop, workers, persistent):
    first, data = Recorder(), make_data(workers, persistent)
    trainer = make_trainer(tmp_path, max_steps=stop)
    trainer.fit(first, data)
    assert data.position == stop * BATCH
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    second, data = Recorder(), make_data(workers, persistent)
    make_trainer(tmp_path, max_steps=17).fit(second, data, ckpt_path=tmp_path / "stopped.ckpt", weights_only=True)
    assert [batch[1:] for batch in first.seen + second.seen] == [batch[1:] for batch in uninterrupted]
    assert data.position == 17 * BATCH


class SaveAt(lightning.Callback):
    """Saves in a hook, as checkpoint callbacks do."""

    def __init__(self, hook: str, path, call: int):
        self.path, self.calls = path, itertools.count()
        setattr(self, hook, lambda trainer, *rest: next(self.calls) == call and trainer.save_checkpoint(path))


@pytest.mark.parametrize(
    ("hook", "call", "position"),
    [
        ("on_train_batch_end", 2, 3),
        ("on_train_batch_end", 4, 5),
        ("on_train_batch_end", 6, 7),
        ("on_validation_end", 0, 5),
        ("on_train_epoch_end", 0, 5),
        ("on_train_epoch_end", 1, 10),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_from_a_checkpoint_of_any_hook(tmp_path, uninterrupted, hook, call, position, workers):
    path = tmp_path / "saved.ckpt"
    first, callback = Recorder(), SaveAt(hook, path, call)
    make_trainer(tmp_path, max_steps=17, callbacks=[callback]).fit(first, make_data(workers))
    assert first.seen == uninterrupted
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["ImageData"] == {"position": position * BATCH}

    second = Recorder()
    make_trainer(tmp_path, max_steps=17).fit(second, make_data(workers), ckpt_path=path, weights_only=True)
    assert second.seen == uninterrupted[position:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_is_interrupted_half_way_comes_again(tmp_path, uninterrupted, workers):
    first, data, path = Recorder(fail_at=7), make_data(workers), tmp_path / "saved.ckpt"
    trainer = make_trainer(tmp_path, max_steps=17)
    with pytest.raises(RuntimeError, match="stopped within a step"):
        trainer.fit(first, data)
    trainer.save_checkpoint(path)
    second = Recorder()
    make_trainer(tmp_path, max_steps=17).fit(second, make_data(workers), ckpt_path=path, weights_only=True)
    assert first.seen + second.seen == uninterrupted


def test_a_position_given_before_fit_is_where_training_begins(tmp_path, uninterrupted):
    model, data = Recorder(), make_data()
    data.load_state_dict({"position": 3 * BATCH})
    make_trainer(tmp_path, max_steps=4).fit(model, data)
    assert [batch[1:] for batch in model.seen] == [batch[1:] for batch in uninterrupted[3:7]]


def test_a_new_trainer_begins_anew_and_the_same_trainer_goes_on(tmp_path, uninterrupted):
    data = make_data()
    for _ in range(2):
        model = Recorder()
        trainer = make_trainer(tmp_path, max_steps=4)
        trainer.fit(model, data)
        assert model.seen == uninterrupted[:4]
    trainer.fit_loop.epoch_loop.max_steps = 6
    trainer.fit(model, data)
    assert [batch[1:] for batch in model.seen] == [batch[1:] for batch in uninterrupted[:6]]


def test_accumulation_and_limited_epochs_do_not_disturb_the_stream(tmp_path, uninterrupted):
    model, data = Recorder(), make_data()
    make_trainer(tmp_path, max_epochs=4, accumulate_grad_batches=2, limit_train_batches=3).fit(model, data)
    assert [batch[1:] for batch in model.seen] == [batch[1:] for batch in uninterrupted[:12]]
    assert data.position == 12 * BATCH
