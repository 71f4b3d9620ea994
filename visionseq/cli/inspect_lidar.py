"""`visionseq inspect` on lidar data: what the frames hold, whether all can be read, and a picture of one."""

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
class _Found:
    good: list[int] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    not_finite: int = 0
    unlabelled: int = 0
    missing_labels: "Path | None" = None
    flat: int = 0
    counts: Counter = field(default_factory=Counter)
    sizes: dict = field(default_factory=lambda: defaultdict(list))
    hits: dict = field(default_factory=lambda: defaultdict(list))
    low: "np.ndarray | None" = None
    high: "np.ndarray | None" = None

    def add(self, index: int, frame: "LidarFrame") -> None:
        import numpy as np

        from visionseq.data.lidar.preparation import have_volume

        self.good.append(index)
        self.points.append(len(frame.points))
        finite = frame.points[np.isfinite(frame.points).all(1)]
        self.not_finite += len(frame.points) - len(finite)
        if len(finite):
            low, high = finite.min(0), finite.max(0)
            self.low = low if self.low is None else np.minimum(self.low, low)
            self.high = high if self.high is None else np.maximum(self.high, high)
        if frame.boxes is None:
            self.unlabelled += 1
            self.missing_labels = self.missing_labels or frame.missing_labels
            return
        self.flat += int((~have_volume(frame.boxes)).sum())
        self.counts.update(frame.names.tolist())
        for row, name in enumerate(frame.names.tolist()):
            self.sizes[name].append(frame.boxes[row, 3:6])
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

    if out is not None:
        claim_files(_camera_picture(out), overwrite=overwrite)
    if number is not None and not 0 <= number < len(frames):
        raise ConfigError(f"frame: {number}, expected 0 to {len(frames) - 1} of {label}")
    found = _Found()
    indices = spread(len(frames), limit)
    with progress(f"reading {label}", len(indices), "frames") as meter:
        for index in indices.tolist():
            try:
                found.add(index, frames.frame(index))
            except DataError as error:
                found.bad.append(str(error))
            meter.advance()
    _report(frames, found)
    if out is not None:
        if number is None and not found.good:
            raise DataError(f"{out}: nothing to draw, no frame could be read")
        _draw(frames, found.good[0] if number is None else number, out)
    if found.bad and not skip_corrupt:
        raise DataError(found.bad[0])


def _report(frames: "LidarFrames", found: _Found) -> None:
    import numpy as np

    say(f"{type(frames).__name__}: {len(frames)} frames, {len(found.good)} of them read, {len(found.bad)} bad")
    if found.points:
        counts = np.array(found.points)
        say(
            f"points: {counts.min()} to {counts.max()} a frame, mean {counts.mean():.0f}; {found.not_finite} not finite"
        )
    if found.low is not None:
        for name, low, high in zip(frames.features, found.low, found.high, strict=True):
            say(f"  {name}: {low:.3f} to {high:.3f}")
    say(f"objects: {sum(found.counts.values())} in {len(found.good) - found.unlabelled} labelled frames")
    if found.missing_labels:
        say(f"  {found.unlabelled} frames without labels: {found.missing_labels} is missing")
    if found.flat:
        say(f"  {found.flat} without a volume: they are not learned")
    for name, count in found.counts.most_common():
        length, width, height = np.mean(found.sizes[name], 0)
        hits = f", {np.median(found.hits[name]):.0f} points (median)" if found.hits[name] else ""
        unknown = "" if not frames.class_names or name in frames.class_names else "  <- not a class of this set"
        say(f"  {name}: {count}, mean size {length:.2f} x {width:.2f} x {height:.2f} m{hits}{unknown}")
    if found.bad:
        say(f"first bad: {found.bad[0]}")


def _draw(frames: "LidarFrames", index: int, out: Path) -> None:
    import numpy as np

    from visionseq.viz import DrawnBoxes, bev_picture, camera_picture, save_png

    frame = frames.frame(index)
    finite = frame.points[np.isfinite(frame.points).all(1)]
    reach = float(min(np.abs(finite[:, :2]).max() if len(finite) else 10.0, _REACH))
    drawn = []
    if frame.boxes is not None and len(frame.boxes):
        names = tuple(sorted(set(frame.names.tolist())))
        labels = np.array([names.index(name) for name in frame.names.tolist()])
        drawn.append(DrawnBoxes(frame.boxes, labels, names, by_class=True))
    save_png(bev_picture(finite, (-reach, -reach, reach, reach), *drawn, title=frame.frame_id), out)
    say(f"picture: {out}")
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
