"""Sequences of different images of one class, as a function of keys (epoch, number).

A training sequence draws its class uniformly over the classes, then its images uniformly, none twice. An evaluation has
a sequence for each image, which it begins with, so every image is the first of one. All draws are keyed: a sequence
depends on the seed, the epoch and its number alone.

Legend: B sequences, S images.
"""

from dataclasses import dataclass

import numpy as np
import torch

from visionseq.data.batch import ImageBatch
from visionseq.data.seeding import seeds_of
from visionseq.data.sources import ImageSource
from visionseq.errors import ConfigError

_CLASS, _PLACE = 11, 12  # keys that keep the draws of classes and images apart from others of the seed


@dataclass
class SequenceBatch(ImageBatch):
    """Sequences of images: `image` float32 [B, S, C, H, W]; `label` and `index` int64 [B], as of single images."""

    unit = "sequences"


class SequenceOrder:
    """An epoch of numbered sequences; their images are drawn, so there is nothing to shuffle.

    Args:
        length: sequences in an epoch.
    """

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def keys(self, epoch: int) -> np.ndarray:
        """int64 [n, 2]: rows (epoch, number)."""
        numbers = np.arange(self.length)
        return np.stack([np.full_like(numbers, epoch), numbers], axis=1)


class ClassMembers:
    """The samples of each class.

    Args:
        indices: int64 [n], the samples that may be drawn.
        labels: int64 [n], their classes.
        class_names: for errors; may be empty.
        least: number of samples that each class needs.

    Raises `ConfigError` naming the class that has too few.
    """

    def __init__(self, indices: np.ndarray, labels: np.ndarray, class_names: list[str], least: int):
        self.classes, class_of, self.counts = np.unique(labels, return_inverse=True, return_counts=True)
        if self.counts.min() < least:
            label = self.classes[self.counts.argmin()]
            name = f" ({class_names[label]})" if class_names else ""
            raise ConfigError(
                f"class {label}{name} has {self.counts.min()} samples, expected at least the {least} of a sequence"
            )
        by_class = np.argsort(class_of, kind="stable")
        self.members, self.class_of = indices[by_class], class_of
        self.starts = np.cumsum(self.counts) - self.counts
        self.place_of = np.empty_like(by_class)
        self.place_of[by_class] = np.arange(len(by_class)) - self.starts[class_of[by_class]]

    def at(self, class_B: np.ndarray, place_BS: np.ndarray) -> np.ndarray:
        """The samples [B, S] at places of the classes with the numbers [B]."""
        return self.members[self.starts[class_B][:, None] + place_BS]


class _Sequences:
    """What both kinds of sequences are made of.

    Args:
        images: the source of the images, which also mirrors them, each by a coin of its own.
        members: the samples to draw from.
        length: S.
        seed: seed of the run.
    """

    def __init__(self, images: ImageSource, members: ClassMembers, length: int, seed: int):
        self.images, self.members, self.length, self.seed = images, members, length, seed
        self.dataset = images.dataset

    def __len__(self) -> int:
        return len(self.members.members)


class TrainingSequences(_Sequences):
    """Random sequences."""

    def fetch(self, keys: np.ndarray) -> SequenceBatch:
        members = self.members
        drawn = seeds_of(self.seed, _CLASS, keys[:, 0], keys[:, 1])
        class_B = (drawn % np.uint64(len(members.classes))).astype(np.int64)
        place_BS = distinct_places(members.counts[class_B], self.length, self.seed, keys)
        index_BS = members.at(class_B, place_BS)
        return _fetched(self.images, index_BS, keys[:, 0] * len(self) + keys[:, 1])


class EvaluationSequences(_Sequences):
    """For each sample the sequence that begins with it; the rest are others of its class, of all samples."""

    def fetch(self, keys: np.ndarray) -> SequenceBatch:
        members, first_B = self.members, keys[:, 1]
        class_B, place_B = members.class_of[first_B], members.place_of[first_B]
        place_BS = distinct_places(members.counts[class_B] - 1, self.length - 1, self.seed, keys)
        place_BS += place_BS >= place_B[:, None]
        index_BS = np.concatenate([first_B[:, None], members.at(class_B, place_BS)], axis=1)
        return _fetched(self.images, index_BS, first_B)


def distinct_places(count_B: np.ndarray, length: int, seed: int, keys: np.ndarray) -> np.ndarray:
    """Uniform draws without repetition, int64 [B, length] from 0 to count - 1, keyed by the seed and the rows of keys.

    The draw of each place is a number among the places that are left; it is moved past those that are taken.
    """
    places = np.empty((len(keys), length), dtype=np.int64)
    for place in range(length):
        drawn = seeds_of(seed, _PLACE, keys[:, 0], keys[:, 1], place)
        number_B = (drawn % (count_B - place).astype(np.uint64)).astype(np.int64)
        for taken_B in np.sort(places[:, :place], axis=1).T:
            number_B += number_B >= taken_B
        places[:, place] = number_B
    return places


def _fetched(images: ImageSource, index_BS: np.ndarray, sequence_B: np.ndarray) -> SequenceBatch:
    """The batch of the samples [B, S]; each image of each sequence has a key of its own for its augmentation."""
    rows, length = index_BS.shape
    image_keys = sequence_B[:, None] * length + np.arange(length)
    batch = images.fetch(np.stack([image_keys.ravel(), index_BS.ravel()], axis=1))
    label = None if batch.label is None else batch.label[::length]
    return SequenceBatch(batch.image.unflatten(0, (rows, length)), label, torch.from_numpy(index_BS[:, 0].copy()))
