"""Loaders: the same batches from any number of workers, however they start; errors; resume without a trainer."""

import itertools
import logging
import os
import signal

import numpy as np
import pytest
import torch

from visionseq.data.batch import ImageBatch, PairBatch
from visionseq.data.image_data import ImageData
from visionseq.data.images import ImageDataset, MemoryImages
from visionseq.data.loader import LoaderOptions
from visionseq.errors import ConfigError, DataError


class SlowImages(ImageDataset):
    """Images by index only: what a data set without a whole-batch path gives."""

    def __init__(self, fast: MemoryImages):
        self.fast, self.labels, self.class_names = fast, fast.labels, fast.class_names
        self.size, self.channels = fast.size, fast.channels

    def __len__(self):
        return len(self.fast)

    def __getitem__(self, index):
        return self.fast[index]


class Deadly(SlowImages):
    """Its worker is killed, as the system does where memory is short."""

    path = "here/images"

    def __getitem__(self, index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Damaged(SlowImages):
    def __getitem__(self, index):
        if index == 5:
            raise DataError("five.png, offset 17: damaged")
        return super().__getitem__(index)


def images(count: int = 20, dtype=torch.uint8) -> MemoryImages:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8))
    if dtype != torch.uint8:
        pixels = pixels.to(dtype) / 128 - 1
    return MemoryImages(pixels, torch.arange(count) % 3, ["a", "b", "c"])


def batches(dataset, count=11, workers=0, start=None, flip=True, **keywords) -> list[ImageBatch]:
    options = LoaderOptions(num_workers=workers, start_method=start)
    loader = ImageData(dataset, 6, flip=flip, loader=options, **keywords).train_dataloader()
    found = list(itertools.islice(loader, count))
    loader.close()
    return found


def assert_same(found: list[ImageBatch], expected: list[ImageBatch]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.index.equal(b.index)
        assert a.label.equal(b.label)
        assert a.image.equal(b.image)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize(
    ("workers", "start"), [(1, "fork"), (4, "fork"), (1, "spawn"), pytest.param(4, "spawn", marks=pytest.mark.slow)]
)
def test_workers_do_not_change_the_batches(workers, start):
    assert_same(batches(images(), workers=workers, start=start), batches(images()))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_whole_batch_path_equals_the_path_by_sample(dtype):
    assert_same(batches(SlowImages(images(dtype=dtype))), batches(images(dtype=dtype)))


def test_a_flip_is_a_mirror_and_differs_between_epochs():
    plain, flipped = batches(images(), 40, flip=False), batches(images(), 40)
    coins = {}
    for a, b in zip(plain, flipped, strict=True):
        for index, x, y in zip(a.index.tolist(), a.image, b.image, strict=True):
            coins.setdefault(index, []).append(not x.equal(y))
            assert y.equal(x.flip(-1)) or y.equal(x)
    share = np.mean([coin for run in coins.values() for coin in run])
    assert 0.3 < share < 0.7
    assert any(len(set(run)) == 2 for run in coins.values())


def test_uint8_becomes_the_floats_of_the_official_code():
    batch = batches(images(), 1, flip=False)[0]
    stored = images().images[batch.index]
    assert batch.image.equal((stored.float() / 255 - 0.5) / 0.5)


def test_position_without_a_trainer():
    data = ImageData(images(), 6, flip=True)
    expected = batches(images(), 9)
    loader = data.train_dataloader()
    found = list(itertools.islice(loader, 4))
    assert data.state_dict() == loader.state_dict() == {"position": 24}
    found += list(itertools.islice(data.train_dataloader(), 2))  # goes on
    again = ImageData(images(), 6, flip=True)
    again.load_state_dict(data.state_dict())
    found += list(itertools.islice(again.train_dataloader(), 3))
    assert_same(found, expected)
    with pytest.raises(ConfigError, match="expected a number of samples"):
        again.load_state_dict({"position": "far"})


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_a_dead_worker_is_one_sentence_with_the_path(loader):
    options = LoaderOptions(num_workers=1, start_method="fork")
    data = ImageData(images(), 6, eval_dataset=Deadly(images()), loader=options)
    if loader == "train_dataloader":
        data = ImageData(Deadly(images()), 6, loader=options)
    with pytest.raises(DataError, match=r"^here/images: a process that reads it has ended .*fewer workers") as caught:
        list(itertools.islice(getattr(data, loader)(), 11))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_sample_arrives_with_its_own_message(workers):
    with pytest.raises(DataError) as caught:
        batches(Damaged(images()), workers=workers, start="fork" if workers else None)
    assert str(caught.value) == "five.png, offset 17: damaged"


def test_evaluation_is_in_order_complete_and_not_augmented():
    data = ImageData(images(), 6, eval_dataset=images(), flip=True, eval_batch_size=8)
    found = list(data.val_dataloader())
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(20))
    assert [len(batch) for batch in found] == [8, 8, 4]
    assert len(data.val_dataloader()) == 3
    assert torch.cat([batch.image for batch in found]).equal(images().batch(np.arange(20)).image)
    assert ImageData(images(), 6).val_dataloader() == []
    assert len(ImageData(images(), 6).predict_dataloader()) == 4


def test_limit_epoch_length_and_class_balance():
    data = ImageData(images(), 6, limit=7, eval_dataset=images())
    seen = torch.cat([batch.index for batch in itertools.islice(data.train_dataloader(), 7)])
    assert sorted(set(seen.tolist())) == [0, 2, 5, 8, 11, 14, 17]
    assert sum(map(len, data.val_dataloader())) == 7
    assert len(ImageData(images(), 6).train_dataloader()) == 3
    assert len(ImageData(images(), 6, samples_per_epoch=60).train_dataloader()) == 10
    assert len(ImageData(images(), 60).train_dataloader()) == 1
    batch = next(iter(ImageData(images(), 21, class_balanced=True).train_dataloader()))
    assert batch.label.bincount().tolist() == [7, 7, 7]
    with pytest.raises(ConfigError, match="no labels"):
        ImageData(MemoryImages(images().images), 6, class_balanced=True).train_dataloader()


def test_starting_a_loader_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches(images(), 2)
    batches(images(), 2, workers=1, start="fork")
    assert torch.rand(3).equal(expected)


def test_batches_move_and_know_their_length():
    pair = PairBatch(torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2))
    moved = pair.to("meta")
    assert len(pair) == 3
    assert moved.noise.device.type == "meta"
    assert moved.label is None
    assert pair.map(lambda tensor: tensor + 1).image.equal(pair.noise)


def test_skipping_reports(tmp_path, caplog):
    from visionseq.data.decode import encode_png
    from visionseq.data.image_folder import ImageFolder

    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode_png(images().images[number]))
    (tmp_path / "2.png").write_bytes(b"\x89PNG but not really")
    with caplog.at_level(logging.WARNING):
        dataset = ImageFolder(tmp_path, 6, channels=1, skip_corrupt=True)
    assert "1 of 4 files skipped" in caplog.text
    assert "2.png" in caplog.text
    assert len(dataset) == 3
    assert len(dataset.skipped) == 1
    assert dataset.pixels(2).equal(images().images[3])
