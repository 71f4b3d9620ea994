"""Loaders: from keys of a sampler to batches, in this process or in workers.

`StreamLoader` is one endless iterator that training cuts into epochs: workers neither stop nor lose work at the end of
an epoch. It counts the samples that it handed out, not those that workers fetched ahead. Both loaders are plain
iterables, so Lightning leaves their sharding alone. An error in a worker arrives with its own message, and the death of
a worker is a `DataError`.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from visionseq.data.batch import Batch
from visionseq.data.sampler import SequentialSampler, StreamSampler
from visionseq.errors import DataError

DEAD_WORKER = "DataLoader worker (pid"  # how torch's message begins


class Source(Protocol):
    """The source of a loader's batches; it travels to workers by pickle or fork, so it opens files when first asked."""

    def __len__(self) -> int: ...

    def fetch(self, keys: np.ndarray) -> Batch:
        """The batch of int64 [n, 2] keys (epoch, index); a function of the keys alone."""


@dataclass
class LoaderOptions:
    """The settings of a loader.

    Args:
        num_workers: processes that fetch; 0 fetches in this one.
        prefetch: batches that each worker keeps ready.
        pin_memory: page-locked batches for the copy to a GPU; None: where CUDA is available.
        start_method: how workers start; None: the system's default.
        persistent_workers: keep the workers of an evaluation loader between evaluations.
    """

    num_workers: int = 0
    prefetch: int = 2
    pin_memory: bool | None = None
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    persistent_workers: bool = False


class StreamLoader:
    """Endless batches from a position on; `len` is the number of batches that training calls an epoch.

    Args:
        source: where the batches are read from.
        sampler_at: gives the sampler that begins at a position.
        batches_per_epoch: batches of an epoch.
        position: samples that were consumed before.
        options: workers, prefetch, pinning.
        consumed: gives the position to save, where the trainer knows better which batches were used.
    """

    def __init__(
        self,
        source: Source,
        sampler_at: Callable[[int], StreamSampler],
        batches_per_epoch: int,
        position: int,
        options: LoaderOptions,
        consumed: Callable[[], int] | None = None,
    ):
        self.source, self.sampler_at, self.options = source, sampler_at, options
        self.batches_per_epoch = batches_per_epoch
        self.position = position
        self._consumed = consumed or (lambda: self.position)
        self._running: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            if self._running is None:
                self._sampler = self.sampler_at(self.position)
                self._running = _batches(_torch_loader(self.source, self._sampler, self.options), self.source)
            batch = self._next(self._running)
            self.position += self._sampler.batch_size
            yield batch

    def _next(self, running: Iterator[Batch]) -> Batch:
        try:
            return next(running)
        except BaseException:
            self.close()  # workers left to the collector of cycles would hang for seconds
            raise

    def state_dict(self) -> dict[str, int]:
        """The samples consumed so far."""
        return {"position": self._consumed()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from another position."""
        if state["position"] != self.position:
            self.close()
            self.position = state["position"]

    def close(self) -> None:
        """End the workers; iterating again starts new ones at the position."""
        self._running = None


class EvalLoader:
    """Every sample of this rank once, in order.

    Args:
        source: where the batches are read from.
        sampler: the order.
        options: workers, prefetch, pinning.
    """

    def __init__(self, source: Source, sampler: SequentialSampler, options: LoaderOptions):
        self._source, self._sampler, self._options = source, sampler, options
        self._loader: DataLoader | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        if self._loader is None:
            persistent = self._options.persistent_workers
            self._loader = _torch_loader(self._source, self._sampler, self._options, persistent)
        try:
            yield from _batches(self._loader, self._source)
        except DataError:
            self.close()
            raise

    def close(self) -> None:
        """End persistent workers."""
        self._loader = None


@dataclass
class _Failure:
    message: str


class _Fetch(Dataset):
    """The map from keys to batches that torch's loader calls, possibly in a worker."""

    def __init__(self, source: Source):
        self.source = source

    def __getitem__(self, keys: np.ndarray) -> Batch | _Failure:
        try:
            return self.source.fetch(keys)
        except (DataError, OSError) as error:  # raised again with the batch, without the worker's traceback as message
            return _Failure(str(error))

    def __len__(self) -> int:
        return len(self.source)


def _batches(loader: DataLoader, source: Source) -> Iterator[Batch]:
    """The batches of a loader; `DataError` where a worker could not read a sample, or is dead."""
    try:
        for batch in _start(loader):
            if isinstance(batch, _Failure):
                raise DataError(batch.message)
            yield batch
    except RuntimeError as error:
        if not str(error).startswith(DEAD_WORKER):
            raise
        hint = "most often memory is short: fewer workers, a smaller prefetch, or smaller batches need less"
        raise DataError(f"{_place_of(source)}: a process that reads it has ended ({error}); {hint}") from error


def _start(loader: DataLoader) -> Iterator[Batch]:
    """Begin to iterate; a worker's death is noticed where a batch is taken.

    torch installs a signal handler that would raise the error anywhere, in the middle of an update as well.
    """
    has_signal = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD) if has_signal else None
    batches = iter(loader)
    if handler is not None:
        signal.signal(signal.SIGCHLD, handler)
    return batches


def _place_of(source: Source) -> str:
    """The folder or file that a source reads, or the name of its data set."""
    data_set = next((value for name in ("frames", "dataset") if (value := getattr(source, name, None))), source)
    places = (getattr(data_set, name, None) for name in ("root", "folder", "path"))
    return str(next((place for place in places if place), type(data_set).__name__))


def _torch_loader(
    source: Source, sampler: StreamSampler | SequentialSampler, options: LoaderOptions, persistent: bool = False
) -> DataLoader:
    workers = options.num_workers
    return DataLoader(
        _Fetch(source),
        batch_size=None,  # the sampler yields whole batches of keys
        sampler=sampler,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=options.prefetch if workers else None,
        multiprocessing_context=options.start_method if workers else None,
        persistent_workers=persistent and workers > 0,
        pin_memory=torch.cuda.is_available() if options.pin_memory is None else options.pin_memory,
        generator=torch.Generator(),  # otherwise starting the loader would draw from the run's global generator
    )


def _unchanged(batch: Any) -> Any:
    """The batch, which is complete: the loader expects a function of a list of samples."""
    return batch
