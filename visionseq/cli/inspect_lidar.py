"""`visionseq inspect` on lidar data: the contents of the frames, whether all can be read, and a picture of one."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say
from visionseq.errors import ConfigError, DataError
from visionseq.progress import progress

if TYPE_CHECKING:
    import numpy as np

    from visionseq.data.lidar.frame import LidarFrame, LidarFrames

_REACH = 60.0  # metres around the sensor in the picture, at most


@dataclass
class _Summary:
    """The frames that were read, the errors of the others, and the contents of the frames."""

    good: list[int] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    not_finite: int = 0
    unlabelled: int = 0
    missing_labels: Path | None = None
    flat: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    sizes: "dict[str, list[np.ndarray]]" = field(default_factory=lambda: defaultdict(list))
    hits: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    low: "np.ndarray | None" = None
    high: "np.ndarray | None" = None

    def add(self, index: int, frame: "LidarFrame") -> None:
        import numpy as np

        from visionseq.data.lidar.preparation import have_volume

        # Points, and the ranges of their columns.
        self.good.append(index)
        self.points.append(len(frame.points))
        finite = frame.points[np.isfinite(frame.points).all(1)]
        self.not_finite += len(frame.points) - len(finite)
        if len(finite):
            low, high = finite.min(0), finite.max(0)
            self.low = low if self.low is None else np.minimum(self.low, low)
            self.high = high if self.high is None else np.maximum(self.high, high)

        # Objects by class: how many, their sizes, and the points on them.
        if frame.objects is None:
            self.unlabelled += 1
            self.missing_labels = self.missing_labels or frame.missing_labels
            return
        boxes, names = frame.objects
        self.flat += int((~have_volume(boxes)).sum())
        self.counts.update(names.tolist())
        for row, name in enumerate(names.tolist()):
            self.sizes[name].append(boxes[row, 3:6])
            if frame.num_points is not None and frame.num_points[row] >= 0:
                self.hits[name].append(int(frame.num_points[row]))


def inspect_frames(
    frames: "LidarFrames",
    label: str,
    out: Path | None,
    limit: int | None,
    skip_corrupt: bool,
    number: int | None,
    overwrite: bool,
) -> None:
    """Read frames through, report on them, and draw frame `number` of the set, or the first that could be read."""
    from visionseq.data.sampler import spread

    # Refuse before reading what could not be written or drawn afterwards.
    if out is not None:
        claim_files(_camera_picture(out), overwrite=overwrite)
    if number is not None and not 0 <= number < len(frames):
        raise ConfigError(f"frame: {number}, expected 0 to {len(frames) - 1} of {label}")

    # Read the frames.
    summary = _Summary()
    indices = spread(len(frames), limit)
    with progress(f"reading {label}", len(indices), "frames") as meter:
        for index in indices.tolist():
            try:
                summary.add(index, frames.frame(index))
            except DataError as error:
                summary.bad.append(str(error))
            meter.advance()

    # Report and draw.
    _report(frames, summary)
    if out is not None:
        if number is None and not summary.good:
            raise DataError(f"{out}: nothing to draw, no frame could be read")
        _draw(frames, summary.good[0] if number is None else number, out)
    if summary.bad and not skip_corrupt:
        raise DataError(summary.bad[0])


def _report(frames: "LidarFrames", summary: _Summary) -> None:
    import numpy as np

    say(f"{type(frames).__name__}: {len(frames)} frames, {len(summary.good)} of them read, {len(summary.bad)} bad")
    if summary.points:
        counts = np.array(summary.points)
        range_of_counts = f"{counts.min()} to {counts.max()} a frame, mean {counts.mean():.0f}"
        say(f"points: {range_of_counts}; {summary.not_finite} not finite")
    if summary.low is not None and summary.high is not None:
        for name, low, high in zip(frames.features, summary.low, summary.high, strict=True):
            say(f"  {name}: {low:.3f} to {high:.3f}")
    _report_objects(frames, summary)
    if summary.bad:
        say(f"first bad: {summary.bad[0]}")


def _report_objects(frames: "LidarFrames", summary: _Summary) -> None:
    """The objects of all frames, then those of each class."""
    import numpy as np

    say(f"objects: {sum(summary.counts.values())} in {len(summary.good) - summary.unlabelled} labelled frames")
    if summary.missing_labels:
        say(f"  {summary.unlabelled} frames without labels: {summary.missing_labels} is missing")
    if summary.flat:
        say(f"  {summary.flat} without a volume: they are not learned")
    for name, count in summary.counts.most_common():
        length, width, height = np.mean(summary.sizes[name], 0)
        hits = f", {np.median(summary.hits[name]):.0f} points (median)" if summary.hits[name] else ""
        unknown = "" if not frames.class_names or name in frames.class_names else "  <- not a class of this set"
        say(f"  {name}: {count}, mean size {length:.2f} x {width:.2f} x {height:.2f} m{hits}{unknown}")


def _draw(frames: "LidarFrames", index: int, out: Path) -> None:
    import numpy as np

    from visionseq.viz import DrawnBoxes, bev_picture, camera_picture, save_png

    # Points and boxes from above.
    frame = frames.frame(index)
    finite = frame.points[np.isfinite(frame.points).all(1)]
    reach = float(min(np.abs(finite[:, :2]).max() if len(finite) else 10.0, _REACH))
    drawn = []
    if frame.objects is not None and len(frame.objects.boxes):
        boxes, labels = frame.objects
        names = tuple(sorted(set(labels.tolist())))
        numbers = np.array([names.index(name) for name in labels.tolist()])
        drawn.append(DrawnBoxes(boxes, numbers, names, by_class=True))
    save_png(bev_picture(finite, (-reach, -reach, reach, reach), *drawn, title=frame.frame_id), out)
    say(f"picture: {out}")

    # The same boxes in the camera's image, where the set has one.
    image = _image_of(frames, frame.frame_id)
    if image is not None and frame.calibration is not None:
        from PIL import Image

        beside = _camera_picture(out)
        with Image.open(image) as picture:
            save_png(camera_picture(picture, frame.calibration, *drawn), beside)
        say(f"picture: {beside}")


def _camera_picture(out: Path) -> Path:
    return out.with_name(f"{out.stem}_camera{out.suffix}")


def _image_of(frames: "LidarFrames", frame_id: str) -> Path | None:
    folder = getattr(frames, "folder", None)
    paths = [folder / "image_2" / f"{frame_id}{ending}" for ending in (".png", ".jpg")] if folder else []
    return next((path for path in paths if path.is_file()), None)
