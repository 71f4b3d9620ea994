"""Class-balanced sequences: distinct images, keyed draws, one coin for each image."""

import numpy as np
import pytest
import torch

from visionseq.arflow import SequenceData
from visionseq.arflow.sequences import distinct_places
from visionseq.data import Digits
from visionseq.data.images import MemoryImages
from visionseq.data.latents import LatentShards, LatentWriter
from visionseq.data.loader import LoaderOptions
from visionseq.errors import ConfigError


def numbered(counts: tuple[int, ...], names: list[str] | None = None) -> MemoryImages:
    """Images that hold their own number, not the same on the left and on the right."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()
    images[..., 0] *= -1
    return MemoryImages(images, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))], names)


def fetched(data: SequenceData, epoch: int, numbers: range):
    keys = np.stack([np.full(len(numbers), epoch), np.arange(numbers.start, numbers.stop)], axis=1)
    return data.train_source().fetch(keys)


def test_a_sequence_has_five_different_images_of_its_class():
    dataset = numbered((5, 30, 9))
    batch = fetched(SequenceData(dataset, 4), 0, range(600))
    images = batch.image[:, :, 0, 0, 1].long()
    assert batch.image.shape == (600, 5, 1, 2, 2)
    assert all(len(set(row)) == 5 for row in images.tolist())
    assert dataset.labels[images].equal(batch.label[:, None].expand(-1, 5))
    assert np.bincount(batch.label).min() > 150  # 200 expected: classes are drawn, not images
    assert images[:, 0].equal(batch.index)


def test_places_are_uniform_and_in_any_order():
    keys = np.stack([np.zeros(24_000, dtype=np.int64), np.arange(24_000)], axis=1)
    places = distinct_places(np.full(len(keys), 4), 3, 7, keys)
    _, counts = np.unique(places, axis=0, return_counts=True)
    assert len(counts) == 24  # every ordered choice of three of four
    assert (abs(counts - 1000) < 150).all()


def test_a_sequence_depends_on_its_key_alone():
    data = SequenceData(Digits(), 4, flip=True)
    whole, part, later = (fetched(data, *key) for key in ((3, range(20)), (3, range(5, 9)), (4, range(20))))
    assert part.image.equal(whole.image[5:9])
    assert not later.image.equal(whole.image)
    assert not fetched(SequenceData(Digits(), 4, flip=True, seed=1), 3, range(20)).image.equal(whole.image)


def test_each_image_of_a_sequence_is_mirrored_by_a_coin_of_its_own():
    batch = fetched(SequenceData(numbered((9, 9)), 4, flip=True), 0, range(400))
    mirrored = batch.image[:, :, 0, 0, 0] > batch.image[:, :, 0, 0, 1]
    assert 0.45 < mirrored.float().mean() < 0.55
    assert len(mirrored.unique(dim=0)) == 32  # all patterns of five coins


@pytest.mark.parametrize(("workers", "world"), [(0, 2), (2, 1)])
def test_neither_workers_nor_processes_change_the_stream(workers, world):
    def batches(rank: int, world: int, workers: int) -> list[torch.Tensor]:
        data = SequenceData(Digits(), 8, loader=LoaderOptions(num_workers=workers))
        data._world = lambda: (rank, world)
        loader = iter(data.train_dataloader())
        found = [next(loader).image for _ in range(3)]
        data.teardown("fit")
        return found

    expected = batches(0, 1, 0)
    parts = [batches(rank, world, workers) for rank in range(world)]
    for number, batch in enumerate(expected):
        for rank in range(world):
            assert parts[rank][number].equal(batch[rank::world])


def test_a_stream_goes_on_at_its_position():
    data = SequenceData(Digits(), 8, samples_per_epoch=16)
    loader = iter(data.train_dataloader())
    images = [next(loader).image for _ in range(5)]
    later = SequenceData(Digits(), 8, samples_per_epoch=16)
    later.load_state_dict({"position": 24})
    assert next(iter(later.train_dataloader())).image.equal(images[3])


def test_an_evaluation_begins_a_sequence_with_each_image():
    dataset = numbered((7, 12))
    data = SequenceData(numbered((7, 12)), 4, eval_dataset=dataset, eval_batch_size=5)
    batches = list(data.val_dataloader())
    images = torch.cat([batch.image[:, :, 0, 0, 1].long() for batch in batches])
    assert images[:, 0].tolist() == list(range(19))
    assert all(len(set(row)) == 5 for row in images.tolist())
    assert dataset.labels[images].equal(torch.cat([batch.label for batch in batches])[:, None].expand(-1, 5))


def test_a_limit_keeps_some_images_of_each_class():
    data = SequenceData(Digits(), 4, limit=100)
    assert len(data.train_source()) == 100
    assert fetched(data, 0, range(500)).image.flatten(0, 1).unique(dim=0).shape[0] <= 100


def test_latents_take_their_own_mirrored_latents(tmp_path):
    writer = LatentWriter(tmp_path)
    latent = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 4, 2, 2)
    writer.write(latent, torch.arange(12) % 2, latent + 100)
    batch = fetched(SequenceData(LatentShards(tmp_path), 4, flip=True), 0, range(50))
    values = batch.image[..., 0, 0, 0]
    assert 0.4 < (values >= 100).float().mean() < 0.6
    assert ((values % 100).long() % 2 == batch.label[:, None]).all()


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (numbered((9, 4), ["cat", "dog"]), {}, r"class 1 \(dog\) has 4 samples, expected at least the 5 of a sequence"),
        (MemoryImages(torch.zeros(9, 1, 2, 2)), {}, "dataset: MemoryImages has no labels"),
        (numbered((9, 9)), {"images_per_sequence": 0}, "images_per_sequence: 0"),
    ],
)
def test_data_without_sequences_are_refused(dataset, options, message):
    with pytest.raises(ConfigError, match=message):
        SequenceData(dataset, 4, **options).train_source()
