"""Frames as a metric's state: rows of numbers of all frames and how many belong to each, so that processes can join."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from visionseq.errors import ConfigError, DataError

Frame = Mapping[str, Any]
Columns = Mapping[str, int]  # name of an array in a frame's dict -> its values per object


class FrameMetric(Metric):
    """Base of the detection metrics; a subclass says which columns objects have and computes from whole frames.

    A `name` column holds class names (str), and so does any column in `texts`; all others are numbers. Names are
    compared as `name_key` gives them. `rules` are the classes that can be evaluated; empty: all.
    """

    full_state_update = False
    gt_columns: ClassVar[Columns]
    dt_columns: ClassVar[Columns]
    texts: ClassVar[Mapping[str, Sequence[str]]] = {}
    rules: ClassVar[Collection[str]] = ()

    def __init__(self, class_names: Sequence[str], **options: Any):
        super().__init__(**options)
        unknown = [name for name in class_names if self.rules and name not in self.rules]
        if unknown:
            raise ConfigError(
                f"{type(self).__name__}: no class {unknown[0]!r}, expected some of {', '.join(self.rules)}"
            )
        self.known_names = tuple(class_names)
        self.gt_rows: list[Tensor]
        self.gt_counts: list[Tensor]
        for side in ("gt", "dt"):
            self.add_state(f"{side}_rows", default=[], dist_reduce_fx="cat")
            self.add_state(f"{side}_counts", default=[], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[Frame], targets: Sequence[Frame]) -> None:
        """Add frames; `DataError` names the frame, and the array that is missing or of another shape."""
        if len(predictions) != len(targets):
            raise DataError(f"{len(predictions)} frames of predictions, {len(targets)} of targets; expected as many")
        first = sum(len(counts) for counts in self.gt_counts)
        rows = {
            "gt": [self._rows(frame, self.gt_columns, "targets", first + i) for i, frame in enumerate(targets)],
            "dt": [self._rows(frame, self.dt_columns, "predictions", first + i) for i, frame in enumerate(predictions)],
        }
        for side, parts in rows.items():
            if parts:
                getattr(self, f"{side}_rows").append(torch.from_numpy(np.concatenate(parts)))
                getattr(self, f"{side}_counts").append(torch.tensor([len(part) for part in parts]))

    def frames(self) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Targets and predictions of each frame, by column; names as numbers of `known_names`, -1 for others."""
        return list(zip(self._side("gt", self.gt_columns), self._side("dt", self.dt_columns), strict=True))

    @staticmethod
    def name_key(name: str) -> str:
        return name

    def table(self) -> str:
        """The figures as text, one a line."""
        figures = self.compute()
        width = max((len(name) for name in figures), default=0)
        return "\n".join(f"{name:<{width}}  {float(value):8.3f}" for name, value in figures.items())

    def _rows(self, frame: Frame, columns: Columns, side: str, number: int) -> np.ndarray:
        parts = []
        count = None
        for name, width in columns.items():
            if name not in frame:
                raise DataError(f"{side}, frame {number}: no {name!r}, expected {', '.join(columns)}")
            values = frame[name]
            values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
            if name == "name" or name in self.texts:
                values = self._numbers(values, self.texts.get(name, self.known_names))
            values = np.atleast_1d(values).astype(np.float64)
            values = values.reshape(len(values), -1) if values.size else np.zeros((0, width))
            if count is None:
                count = len(values)
            if len(values) != count or (count and values.shape[1] != width):
                raise DataError(f"{side}, frame {number}: {name} {list(values.shape)}, expected [{count}, {width}]")
            parts.append(values.reshape(count, width))
        return np.concatenate(parts, 1)

    def _numbers(self, names: np.ndarray, known: Sequence[str]) -> np.ndarray:
        number = {self.name_key(name): i for i, name in enumerate(known)}
        return np.array([number.get(self.name_key(str(name)), -1) for name in names.tolist()], np.int64)

    def _side(self, side: str, columns: Columns) -> Iterator[dict[str, np.ndarray]]:
        nothing = np.zeros((0, sum(columns.values())))
        rows = np.concatenate([nothing, *(part.cpu().numpy() for part in getattr(self, f"{side}_rows"))])
        start = 0
        for size in (size for counts in getattr(self, f"{side}_counts") for size in counts.tolist()):
            of_frame, place, arrays = rows[start : start + size], 0, {}
            for name, width in columns.items():
                values = of_frame[:, place : place + width]
                arrays[name] = values[:, 0] if width == 1 else values
                place += width
            start += size
            yield arrays

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Gather the frames as Python objects.

        A group of GPUs could not gather tensors on the CPU, and a process without frames would not know their shape.
        """
        group = process_group or self.process_group
        state = {name: [part.cpu() for part in getattr(self, name)] for name in self._reductions}
        states = [state] * dist.get_world_size(group)
        dist.all_gather_object(states, state, group=group)
        for name in state:
            setattr(self, name, [part for parts in states for part in parts[name]])


def figures_of(values: Mapping[str, float]) -> dict[str, Tensor]:
    """The figures as float64 scalars, the form in which a metric returns them."""
    return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in values.items()}
