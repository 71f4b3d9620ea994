"""`visionseq inspect`: the contents of a data set, whether all of it can be read, and a picture of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionseq.cli.option_types import PositiveInt
from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say
from visionseq.errors import DataError
from visionseq.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from visionseq.data.images import ImageDataset
    from visionseq.data.pairs.dataset import PairDataset

_BATCH, _COLUMNS, _MOST_CLASSES = 256, 8, 20


def inspect(
    data: str,
    *,
    out: Path | None = None,
    size: PositiveInt = 64,
    channels: Literal[1, 3] = 3,
    split: str | None = None,
    limit: PositiveInt | None = None,
    skip_corrupt: bool = False,
    frame: int | None = None,
    overwrite: bool = False,
) -> None:
    """Read a data set through and report its contents: counts, shapes, ranges, classes, the first bad file.

    Understands the built-in sets, folders of images (with a folder per class, or flat), WebDataset shards, latents,
    reflow pairs in all layouts, and lidar data: KITTI, nuScenes, Waymo (prepared), Argoverse 2, ONCE, and your own
    folders with points/ and labels/. Exit code 1 where something cannot be read.

    Args:
        data: digits, fashion_mnist, lidar_world, a folder, a .zip of pairs, .tar or .safetensors shards.
        out: Picture to write: a grid of samples; for pairs, rows of images above rows of their noise; for lidar data a
            frame from above with its boxes, and the camera's image beside it where there is one.
        size: Height and width that image files are cropped to.
        channels: 1 for grey images, 3 for colour.
        split: Part of a set: all, train or test of a built-in one; of lidar data a list in ImageSets/, of scenes of
            nuScenes (train.txt), or a folder.
        limit: Read only so many samples, spread evenly.
        skip_corrupt: Count and report samples that cannot be read, instead of failing.
        frame: Of lidar data, the number of the frame to draw, from 0; default: the first frame that was read.
        overwrite: Replace an earlier picture.

    Examples:
        visionseq inspect digits --out digits.png
        visionseq inspect datasets/afhqv2/train64 --size 64 --out cats.png
        visionseq inspect pairs/cifar10 --limit 1000 --out pairs.png
        visionseq inspect photos/ --skip-corrupt
        visionseq inspect datasets/kitti --limit 200 --out kitti.png --frame 3
    """
    if out is not None:
        claim_files(out, overwrite=overwrite)
    from visionseq.data.lidar.opening import WORLD, open_frames, refuse_loose_points

    frames = open_frames(data, split)
    if frames is not None:
        from visionseq.cli.inspect_lidar import inspect_frames

        inspect_frames(frames, data, out, limit, skip_corrupt, frame, overwrite)
        return
    from visionseq.data.opening import BUILT_IN, open_data
    from visionseq.data.sampler import spread

    if data not in BUILT_IN and not Path(data).exists():
        raise DataError(
            f"{data}: no such file or folder, and none of the built-in sets {', '.join((*BUILT_IN, WORLD))}"
        )
    refuse_loose_points(data)
    dataset = open_data(data, size, channels, split)
    indices = spread(len(dataset), limit)
    summary = _read(dataset, indices, data)
    _report(dataset, summary, len(indices))
    if out is not None:
        _draw(dataset, summary.good, out)
        say(f"picture: {out}")
    if summary.bad and not skip_corrupt:
        raise DataError(summary.bad[0])


@dataclass
class _Summary:
    """The samples that were read, the errors of the others, and moments of the pixels."""

    good: list[int] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0
    values: int = 0

    def add(self, image: "Tensor", indices: "np.ndarray") -> None:
        self.good += indices.tolist()
        self.low, self.high = min(self.low, image.min().item()), max(self.high, image.max().item())
        self.total += image.double().sum().item()
        self.squares += image.double().square().sum().item()
        self.values += image.numel()

    @property
    def mean(self) -> float:
        return self.total / self.values

    @property
    def deviation(self) -> float:
        return max(self.squares / self.values - self.mean**2, 0.0) ** 0.5


def _read(dataset: "ImageDataset | PairDataset", indices: "np.ndarray", label: str) -> _Summary:
    summary = _Summary()
    with progress(f"reading {label}", len(indices), "images") as meter:
        for start in range(0, len(indices), _BATCH):
            part = indices[start : start + _BATCH]
            try:
                summary.add(dataset.batch(part).image, part)
            except DataError:
                _read_singly(dataset, part, summary)
            meter.advance(len(part))
    return summary


def _read_singly(dataset: "ImageDataset | PairDataset", indices: "np.ndarray", summary: _Summary) -> None:
    """Read samples one by one, so that a bad one does not hide the others."""
    for row in range(len(indices)):
        part = indices[row : row + 1]
        try:
            summary.add(dataset.batch(part).image, part)
        except DataError as error:
            summary.bad.append(str(error))


def _report(dataset: "ImageDataset | PairDataset", summary: _Summary, read: int) -> None:
    kind = type(dataset).__name__
    say(f"{kind}: {len(dataset)} samples, {read} of them read, {len(summary.bad)} bad")
    say(f"shape: {dataset.channels} x {dataset.size} x {dataset.size}")
    if summary.good:
        moments = f"mean {summary.mean:.3f}, standard deviation {summary.deviation:.3f}"
        say(f"values: {summary.low:.3f} to {summary.high:.3f}, {moments}")
    if dataset.labels is None:
        say("classes: none")
    else:
        _report_classes(dataset.labels, dataset.class_names)
    if summary.bad:
        say(f"first bad: {summary.bad[0]}")


def _report_classes(labels: "Tensor", class_names: list[str]) -> None:
    """The number of samples of each class; classes without names are shown by their numbers."""
    counts = labels.bincount(minlength=len(class_names)).tolist()
    say(f"classes: {len(counts)}, of {min(counts)} to {max(counts)} samples")
    for number, count in list(enumerate(counts))[:_MOST_CLASSES]:
        say(f"  {class_names[number] if number < len(class_names) else number}: {count}")
    if len(counts) > _MOST_CLASSES:
        say(f"  and {len(counts) - _MOST_CLASSES} more")


def _draw(dataset: "ImageDataset | PairDataset", good: list[int], out: Path) -> None:
    import numpy as np
    import torch

    from visionseq.data.sampler import spread
    from visionseq.viz import image_grid, save_png

    if not good:
        raise DataError(f"{out}: nothing to draw, no sample could be read")

    # Samples that are spread over the set; of pairs, their noise as well.
    batch = dataset.batch(np.array(good, dtype=np.int64)[spread(len(good), _COLUMNS * _COLUMNS)])
    rows = [_visible(batch.image)]
    noise = getattr(batch, "noise", None)
    if noise is not None:
        rows.append(_visible(noise / 3))  # three standard deviations are black and white

    # A row of images above the row of their noise, then the next images.
    columns = [torch.stack(parts).flatten(0, 1) for parts in zip(*(row.split(_COLUMNS) for row in rows), strict=True)]
    save_png(image_grid(torch.cat(columns), columns=_COLUMNS), out)


def _visible(image: "Tensor") -> "Tensor":
    """Three or one of the channels in [-1, 1]; latents are scaled to their largest value."""
    if image.shape[1] in (1, 3):
        return image.clamp(-1, 1)
    shown = image[:, :3]
    return shown / shown.abs().max().clamp(min=1e-6)
