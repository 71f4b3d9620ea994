"""Pairs (noise, image) for reflow, made by a teacher (arXiv 2405.20320, sections 3 and 4).

`DrawnPairs` draws noise and lets a model turn it into images: an EDM teacher by its ODE, a velocity by the plain
sampler (for the k-th reflow). `InvertedPairs` takes real images and carries them to noise: by the teacher's ODE from
sigma_min up to sigma_max (configuration G, whose solver the paper leaves open). Pair i depends on the recipe and on i
alone, so an interrupted `write_pairs` continues to exactly the pairs of an uninterrupted one with the same batch size.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from visionseq import zoo
from visionseq.data.images import ImageDataset
from visionseq.data.pairs.dataset import PairWriter
from visionseq.data.pairs.noise import official_noise
from visionseq.data.seeding import generator_for, seeds_of
from visionseq.errors import ConfigError
from visionseq.pixels import to_uint8
from visionseq.progress import progress
from visionseq.rectified_flow.inversion import invert
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity
from visionseq.rectified_flow.sampling import Solver, sample
from visionseq.rectified_flow.teacher import edm_invert, edm_sample
from visionseq.saving.fingerprint import fingerprint

Teacher = EDMDenoiser | EDMVelocity
PAIRS_PER_WRITE = 1024  # pairs of a shard; a kill costs the work for one shard at most
_LABEL, _EPS = 1, 2  # keys that keep the draws of one seed apart


@dataclass(frozen=True)
class PairRecipe:
    """The settings with which a teacher is run.

    Attributes:
        steps: noise levels N of an EDM teacher (2N - 1 evaluations by Heun), evaluations of a velocity (odd for Heun);
            None: 18 levels below 64 x 64 pixels and 40 from there on, as in EDM, and for a velocity 35 evaluations.
        solver: `heun` or `euler`.
        seed: seed of the noise and of the classes.
        guidance_scale: classifier-free guidance of a conditional teacher; the official pairs have none.
    """

    steps: int | None = None
    solver: Solver = "heun"
    seed: int = 0
    guidance_scale: float = 1.0

    def steps_of(self, teacher: Teacher) -> int:
        """The number of steps, or that which suits the teacher where the recipe has none."""
        if self.steps is not None:
            return self.steps
        if isinstance(teacher, EDMDenoiser):
            return 18 if teacher.img_resolution < 64 else 40
        return 35

    def filled(self, teacher: Teacher) -> "PairRecipe":
        """The recipe with the number of steps for a teacher."""
        return replace(self, steps=self.steps_of(teacher))


@dataclass
class PairRows:
    """Consecutive pairs: image uint8 and noise float32 [n, C, H, W], label int64 [n], records uint8 [n, 32]."""

    image: Tensor
    noise: Tensor
    label: Tensor | None = None
    records: np.ndarray | None = None

    def cut(self, start: int, stop: int) -> "PairRows":
        """Rows start .. stop - 1."""
        label = None if self.label is None else self.label[start:stop]
        records = None if self.records is None else self.records[start:stop]
        return PairRows(self.image[start:stop], self.noise[start:stop], label, records)


class PairMaker(Protocol):
    """Something that can make the pairs 0 .. len - 1 in any pieces."""

    def __len__(self) -> int: ...

    @property
    def recipe(self) -> dict[str, Any]:
        """Plain values that determine the pairs."""

    def rows(self, start: int, count: int) -> PairRows:
        """`count` pairs from `start` on, or fewer at the end."""


class DrawnPairs:
    """Images of drawn noise, with a uniformly random class each where the teacher is conditional.

    The noise is the stream of `numpy.random.default_rng(seed)`, image after image, as the official code draws it.

    Args:
        teacher: EDM denoiser or velocity, in eval mode.
        num_pairs: number of pairs.
        recipe: settings of the teacher.
    """

    def __init__(self, teacher: Teacher, num_pairs: int, recipe: PairRecipe = PairRecipe()):
        self.teacher, self.num_pairs, self.options = teacher, num_pairs, recipe.filled(teacher)
        self._position = 0
        self._stream: Iterator[tuple[bytes, Tensor]] = iter(())

    def __len__(self) -> int:
        return self.num_pairs

    @property
    def recipe(self) -> dict[str, Any]:
        return {"pairs": "drawn", **asdict(self.options), "teacher": fingerprint(self.teacher)}

    def rows(self, start: int, count: int) -> PairRows:
        drawn = self._noise(start, count)
        noise, records = torch.stack([z for _, z in drawn]), b"".join(record for record, _ in drawn)
        labels = self._labels(start, count)
        image = to_uint8(decode(self.teacher, noise, labels, self.options)).cpu()
        return PairRows(image, noise, labels, np.frombuffer(records, np.uint8).reshape(count, -1))

    def _noise(self, start: int, count: int) -> list[tuple[bytes, Tensor]]:
        if start < self._position or not self._position:
            self._position, self._stream = 0, official_noise(self.options.seed, self.teacher.sample_shape)
        skipped = start - self._position
        self._position = start + count
        return list(islice(self._stream, skipped, skipped + count))

    def _labels(self, start: int, count: int) -> Tensor | None:
        if not self.teacher.label_dim:
            return None
        seeds = seeds_of(self.options.seed, _LABEL, np.arange(start, start + count))
        return torch.from_numpy((seeds % np.uint64(self.teacher.label_dim)).astype(np.int64))


class InvertedPairs:
    """Noise of real images. It has no generator records, so it cannot be kept in the official zip layout.

    Args:
        teacher: EDM denoiser or velocity, in eval mode.
        dataset: the images, with their classes where the teacher is conditional.
        recipe: settings of the teacher; guidance is not used.
        num_pairs: number of pairs, from the first image on; None: one for each image.

    Raises `ConfigError` where images or classes do not match the teacher, or the data set has fewer images.
    """

    def __init__(
        self,
        teacher: Teacher,
        dataset: ImageDataset,
        recipe: PairRecipe = PairRecipe(),
        num_pairs: int | None = None,
    ):
        shape, expected = (dataset.channels, dataset.size), (teacher.in_channels, teacher.img_resolution)
        if shape != expected:
            raise ConfigError(f"dataset: images of {shape} (channels, side), the teacher makes {expected}")
        if teacher.label_dim and (dataset.labels is None or dataset.labels.max() >= teacher.label_dim):
            labels = "no labels" if dataset.labels is None else f"classes up to {dataset.labels.max()}"
            raise ConfigError(f"dataset: {labels}, the teacher is conditional on {teacher.label_dim} classes")
        if num_pairs is not None and num_pairs > len(dataset):
            raise ConfigError(f"num_pairs: {num_pairs}, the data set has {len(dataset)} images")
        self.teacher, self.dataset, self.options = teacher, dataset, recipe.filled(teacher)
        self.num_pairs = len(dataset) if num_pairs is None else num_pairs

    def __len__(self) -> int:
        return self.num_pairs

    @property
    def recipe(self) -> dict[str, Any]:
        options = asdict(replace(self.options, guidance_scale=1.0))
        return {"pairs": "inverted", **options, "images": len(self.dataset), "teacher": fingerprint(self.teacher)}

    def rows(self, start: int, count: int) -> PairRows:
        batch = self.dataset.batch(np.arange(start, min(start + count, len(self.dataset))))
        labels = batch.label if self.teacher.label_dim else None
        noise = encode(self.teacher, batch.image, labels, self.options, generator_for(self.options.seed, _EPS, start))
        return PairRows(to_uint8(batch.image), noise.float().cpu(), batch.label)


def write_pairs(source: PairMaker, writer: PairWriter, batch_size: int = 256, label: str = "pairs") -> int:
    """Make the pairs that the writer does not have yet, showing progress; returns their number.

    Args:
        source: makes the pairs.
        writer: stores the pairs; its recipe should be the source's.
        batch_size: pairs that go through the network at once. Batches begin at multiples of it and are made whole,
            so that a network whose rounding depends on the batch gives the same pairs after a restart.
        label: name of the pairs in the progress display.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: {batch_size}, expected at least 1")

    # The missing pairs in ranges of whole batches.
    chunk = max(PAIRS_PER_WRITE // batch_size, 1) * batch_size
    missing = writer.missing(len(source), chunk)
    before = done = len(source) - sum(map(len, missing))

    # Make each range in whole batches, and write the part of it that is missing.
    with progress(label, len(source), "pairs", done=done, stays=True) as meter:
        for part in missing:
            first = part.start // batch_size * batch_size
            batches = []
            for start in range(first, part.stop, batch_size):
                batches.append(source.rows(start, batch_size))
                meter.reach(done + min(start + batch_size, part.stop) - part.start)
            rows = _joined(batches).cut(part.start - first, part.stop - first)
            writer.write(part.start, rows.image, rows.label, rows.noise, rows.records)
            done += len(part)
    return done - before


def load_teacher(name: str) -> Teacher:
    """The model behind a name or folder, in eval mode; raises `ConfigError` where it makes no images by an ODE."""
    model = zoo.load(name)
    if not isinstance(model, EDMDenoiser | EDMVelocity):
        raise ConfigError(f"teacher: {name} is a {type(model).__name__}, expected an EDMDenoiser or EDMVelocity")
    return model


def decode(teacher: Teacher, noise: Tensor, labels: Tensor | None, recipe: PairRecipe) -> Tensor:
    """Images [n, C, H, W] of unit noise, on the teacher's device: by EDM's ODE, or by the plain rule of a velocity."""
    noise, labels = _moved(teacher, noise, labels)
    steps, solver, scale = recipe.steps_of(teacher), recipe.solver, recipe.guidance_scale
    if isinstance(teacher, EDMDenoiser):
        return edm_sample(teacher, noise, steps, solver, class_labels=labels, guidance_scale=scale, record=False).x
    return sample(teacher, noise, steps, solver, "default", class_labels=labels, guidance_scale=scale, record=False).x


def encode(
    teacher: Teacher, image: Tensor, labels: Tensor | None, recipe: PairRecipe, generator: torch.Generator
) -> Tensor:
    """Unit noise of images [n, C, H, W], on the teacher's device; a velocity needs a little noise from `generator`."""
    image, labels = _moved(teacher, image, labels)
    steps = recipe.steps_of(teacher)
    if isinstance(teacher, EDMDenoiser):
        return edm_invert(teacher, image, steps, recipe.solver, labels)
    return invert(teacher, image, steps, recipe.solver, labels, generator).x


def _moved(teacher: Teacher, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    device = next(teacher.parameters()).device
    return images.to(device), None if labels is None else labels.to(device)


def _joined(batches: list[PairRows]) -> PairRows:
    """Batches of one maker as one: either all of them have labels and records, or none."""
    labels = [rows.label for rows in batches if rows.label is not None]
    records = [rows.records for rows in batches if rows.records is not None]
    return PairRows(
        torch.cat([rows.image for rows in batches]),
        torch.cat([rows.noise for rows in batches]),
        torch.cat(labels) if labels else None,
        np.concatenate(records) if records else None,
    )
