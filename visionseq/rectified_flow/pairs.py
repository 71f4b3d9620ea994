"""The data module of reflow training that makes its own pairs: one command goes from a teacher to a student.

What is missing is generated before the first step, on the first process of each node; an interrupted generation goes
on where it stopped. For sets that take hours, `visionseq pairs` makes them beforehand at the same `path`.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionseq.data.batch import PairBatch
from visionseq.data.images import ImageDataset
from visionseq.data.loader import LoaderOptions, Source
from visionseq.data.pair_data import PairData, PairSource
from visionseq.data.pairs.dataset import PairDataset
from visionseq.data.pairs.opening import open_pair_writer
from visionseq.errors import DataError
from visionseq.places import writable_cache
from visionseq.rectified_flow.pair_generation import (
    DrawnPairs,
    InvertedPairs,
    PairRecipe,
    Teacher,
    load_teacher,
    write_pairs,
)
from visionseq.rectified_flow.sampling import Solver


class ReflowPairs(PairData):
    """Pairs of a teacher as `PairBatch`, generated where they are missing.

    Args:
        teacher: zoo name, run folder or model folder of an EDM denoiser or a velocity.
        batch_size: samples of the global batch, summed over processes.
        num_pairs: how many pairs to train on.
        steps: of the teacher's sampler, see `PairRecipe`; None: what suits the teacher.
        solver: of the teacher's sampler.
        pair_seed: seed of the noise.
        path: folder of the pairs; None: in the cache, under a name that stands for teacher and recipe.
        images: real images to invert instead of noise to draw (configuration G); replaces `num_pairs`.
        generation_batch_size: pairs that go through the teacher at once.
        eval_path: pairs for validation, test and prediction.
        in_memory: hold shards in memory; None: where they are less than 1 GB.
        eval_batch_size: the batch of validation, test and prediction; None: batch_size.
        loader: workers, prefetch, pinning.
        limit: use only so many pairs, spread evenly.
        samples_per_epoch: pairs of an epoch of the training; None: the number of pairs.
        class_balanced: draw every class equally often.
        seed: keys the order.
    """

    def __init__(
        self,
        teacher: str,
        batch_size: int,
        num_pairs: int = 30_000,
        steps: int | None = None,
        solver: Solver = "heun",
        pair_seed: int = 0,
        path: str | None = None,
        images: ImageDataset | None = None,
        generation_batch_size: int = 256,
        eval_path: str | None = None,
        in_memory: bool | None = None,
        eval_batch_size: int | None = None,
        loader: LoaderOptions | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        class_balanced: bool = False,
        seed: int = 0,
    ):
        super().__init__(
            path or "",
            batch_size,
            eval_path,
            in_memory,
            eval_batch_size,
            loader,
            limit,
            samples_per_epoch,
            class_balanced,
            seed,
        )
        self.teacher, self.num_pairs, self.images = teacher, num_pairs, images
        self.recipe = PairRecipe(steps, solver, pair_seed)
        self.generation_batch_size = generation_batch_size

    def prepare_data(self) -> None:
        """Generate the pairs that are missing; raises `ConfigError` where the folder holds those of another recipe."""
        maker = self._maker
        with open_pair_writer(self.folder, "shards", maker.teacher.preprocessing, maker.recipe) as writer:
            maker.teacher.to("cuda" if torch.cuda.is_available() else "cpu")
            write_pairs(maker, writer, self.generation_batch_size, f"pairs of {self.teacher}")

    @cached_property
    def folder(self) -> Path:
        """Where the pairs are."""
        if self.path:
            return Path(self.path)
        key = json.dumps([self._maker.recipe, len(self._maker)], sort_keys=True)
        return writable_cache("pairs", f"{Path(self.teacher).name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing of the teacher, which is known before the pairs exist."""
        return dict(self._maker.teacher.preprocessing)

    @property
    def dataset(self) -> PairDataset:
        """The pairs to train on; before the first are generated, their plan, which knows size and classes."""
        if any(self.folder.glob("*.safetensors")):
            return self._open(str(self.folder))
        return PlannedPairs(self._maker.teacher, len(self._maker))

    def setup(self, stage: str) -> None:
        self._pairs.clear()  # a folder that was opened for a check has grown since
        super().setup(stage)

    def first(self, count: int) -> PairBatch:
        """The first `count` pairs that are trained on, for measurements; they must have been generated."""
        return self.dataset.batch(np.arange(min(count, len(self.train_source()))))

    def train_source(self) -> Source:
        return _FirstPairs(self.dataset, len(self._maker))

    @cached_property
    def _maker(self) -> DrawnPairs | InvertedPairs:
        teacher = load_teacher(self.teacher)
        if self.images is not None:
            return InvertedPairs(teacher, self.images, self.recipe)
        return DrawnPairs(teacher, self.num_pairs, self.recipe)


class PlannedPairs(PairDataset):
    """The plan of pairs that do not exist yet: enough to compare them with their model."""

    def __init__(self, teacher: Teacher, count: int):
        self.count = count
        self.channels, self.size = teacher.sample_shape[:2]
        self.class_names = list(teacher.preprocessing.get("class_names") or [])
        self.labels = torch.arange(teacher.label_dim) if teacher.label_dim else None

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: np.ndarray) -> PairBatch:
        raise DataError("these pairs are not generated yet; `prepare_data` makes them")


class _FirstPairs(PairSource):
    """The first `count` pairs: a folder may hold more, made for a longer training."""

    def __init__(self, dataset: PairDataset, count: int):
        super().__init__(dataset)
        self.count = count

    def __len__(self) -> int:
        return min(self.count, len(self.dataset))
