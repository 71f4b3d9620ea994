"""`visionseq detect`: boxes in point clouds from files, as JSON, KITTI lines, a picture and a 3D page."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from visionseq.cli.device import DeviceName, choose_device
from visionseq.cli.option_types import PositiveInt
from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import few_of_a_kind, say
from visionseq.errors import ConfigError, DataError
from visionseq.progress import progress

if TYPE_CHECKING:
    import numpy as np

    from visionseq.data.point_files import PointCloud
    from visionseq.geometry import Calibration
    from visionseq.lion import Detections, LionDetector

Kind = Literal["bev", "json", "kitti", "html", "rrd"]
_ENDINGS: dict[Kind, str] = {"bev": ".png", "json": ".json", "kitti": ".txt", "html": ".html", "rrd": ".rrd"}

_log = logging.getLogger("visionseq.lion")


def detect(
    model: str,
    *,
    input: str,
    out: Path = Path("detections"),
    score_threshold: float = 0.0,
    draw_threshold: float = 0.3,
    save: list[Kind] = ["bev", "json", "html"],  # noqa: B006 (read only)
    columns: PositiveInt | None = None,
    calib: Path | None = None,
    image_size: tuple[PositiveInt, PositiveInt] | None = None,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    intensity_scale: float = 1.0,
    limit: PositiveInt | None = None,
    overwrite: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Detect objects in point clouds: a file, all files of a folder (one after the other), or a glob pattern.

    Reads .bin (float32 rows), .npy, .pcd, .ply, .las, .laz and .feather, and writes NAME.json, NAME.png and the like
    for each file. The points go the way that `visionseq test` takes with the model's own preprocessing, one frame at a
    time, so the boxes are the same to the bit. Boxes are in the frame of the file (most: x forward, y left, z up;
    nuScenes: x right, y forward), metres; a model for another sensor or another height above the ground finds what it
    finds. A file that cannot be read is reported and left out; the exit code is then 1.

    Args:
        model: Name in the zoo, model folder, run folder, or hf://org/repo@revision.
        input: File, folder or glob pattern.
        out: Folder to write to.
        score_threshold: Boxes below are left out everywhere.
        draw_threshold: Boxes below are left out of the picture (the 3D page has a slider).
        save: What to write: bev (picture from above), json, kitti (result lines), html (3D page), rrd (for Rerun).
        columns: Of .bin files, 3 to 6; default: 4, or 5 for .pcd.bin.
        calib: KITTI calibration file, or a folder of them (NAME.txt for NAME.bin); for exact KITTI lines.
        image_size: Width and height of the camera's picture in pixels, with --calib: only points that the camera sees
            are taken, as models of KITTI want it, and image boxes end at its border.
        shift: Added to x, y, z of the points before the model, in metres, and taken off the boxes: a sensor that
            stands 0.5 m higher than the model's wants --shift 0 0 0.5.
        intensity_scale: Factor on the intensity; 0.00392 for values of 0 to 255 and a model of 0 to 1.
        limit: Only the first so many files.
        overwrite: Replace the results of an earlier call.
        device: Where to run.

    Examples:
        visionseq detect lion-mamba-lidarworld --input scan.bin --out out/
        visionseq detect lion-mamba-lidarworld --input scan.pcd --shift 0 0 0.5 --intensity-scale 0.00392
        visionseq detect runs/mamba_lidar_world --input 'drive/*.pcd' --save json,kitti --score-threshold 0.3
        visionseq detect lion-mamba-lidarworld --input velodyne --calib calib --image-size 1242 375 --save kitti
    """
    from visionseq.data.point_files import find_point_files
    from visionseq.lion import FrameInput, detect_frame, load_detector

    if "rrd" in save:
        from visionseq.viz.rerun import check_rerun

        check_rerun()
    if image_size and calib is None:
        raise ConfigError(f"image_size: {image_size[0]} {image_size[1]}, expected --calib with it")
    image_shape = (image_size[1], image_size[0]) if image_size else None
    scans = _scans(find_point_files(input)[:limit], out, calib)
    claim_files(*(Path(f"{scan.target}{_ENDINGS[kind]}") for scan in scans for kind in save), overwrite=overwrite)
    detector = load_detector(model).to(choose_device(device))
    tally = _Tally(detector.class_names, draw_threshold, len(scans))
    with few_of_a_kind(_log), progress("detecting", len(scans), "clouds") as meter:
        for scan in scans:
            try:
                cloud, calibration = scan.read(columns)
            except DataError as error:
                tally.miss(error)
            else:
                name, camera = str(scan.path), (calibration, image_shape)
                frame = FrameInput.of(cloud, detector, shift, intensity_scale, name, *camera)
                start = time.monotonic()
                detections = detect_frame(detector, frame).above(score_threshold)
                tally.add(detections, time.monotonic() - start)
                facts = {"frame": scan.path.name, "model": model, **tally.origin_of(cloud, name)}
                _write(scan.target, frame.points, detections, detector, save, draw_threshold, facts, camera)
            meter.advance()
    tally.report(out)


class _Scan(NamedTuple):
    """A file, what its outputs are called up to their endings, and its calibration file."""

    path: Path
    target: Path
    calibration: Path | None

    def read(self, columns: int | None) -> "tuple[PointCloud, Calibration | None]":
        from visionseq.data.point_files import read_points
        from visionseq.geometry import Calibration

        calibration = None if self.calibration is None else Calibration.from_file(self.calibration)
        return read_points(self.path, columns), calibration


def _scans(files: list[Path], out: Path, calib: Path | None) -> list[_Scan]:
    """Every file with a name of its own for its outputs and with a calibration that is there."""
    taken: dict[Path, Path] = {}
    scans = []
    for path in files:
        stem = path.name.removesuffix(path.suffix).removesuffix(".pcd")
        other = taken.setdefault(out / stem, path)
        if other is not path:
            raise DataError(f"{other} and {path} would both be written to {out / stem}.*; expected names that differ")
        calibration = calib / f"{stem}.txt" if calib and calib.is_dir() else calib
        if calibration and not calibration.is_file():
            raise ConfigError(f"calib: {calibration} is missing")
        scans.append(_Scan(path, out / stem, calibration))
    return scans


@dataclass
class _Tally:
    """What a run detected, in how long, and which files it could not read."""

    class_names: list[str]
    draw_threshold: float
    total: int
    frames: int = 0
    unread: int = 0
    drawn: int = 0
    seconds: float = 0.0
    origin_reported: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, detections: "Detections", seconds: float) -> None:
        self.frames += 1
        self.seconds += seconds
        self.drawn += len(detections.above(self.draw_threshold))
        self.counts.update(self.class_names[label - 1] for label in detections.labels.tolist())

    def miss(self, error: DataError) -> None:
        """Report a file that cannot be read and go on, unless it is the only one."""
        if self.total == 1:
            raise error
        self.unread += 1
        _log.error("%s", error)

    def origin_of(self, cloud: "PointCloud", name: str) -> dict[str, list[float]]:
        """What JSON says of coordinates of a map, which boxes leave out; the log says so once."""
        if not any(cloud.origin):
            return {}
        if not self.origin_reported:
            origin = " ".join(f"{value:.12g}" for value in cloud.origin)
            _log.warning("%s is on a map: boxes are relative to the origin %s, which its JSON gives", name, origin)
        self.origin_reported = True
        return {"origin": list(cloud.origin)}

    def report(self, out: Path) -> None:
        """Print the summary; `DataError` where files could not be read."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.most_common())
        summary = f"{counts} ({self.drawn} above {self.draw_threshold:g})" if counts else "nothing"
        frames = f"{self.frames} frame{'' if self.frames == 1 else 's'}"
        say(f"{frames} in {self.seconds:.1f} s ({self.frames / max(self.seconds, 1e-9):.2f} frames/s): {summary}")
        say(out)
        if self.unread:
            raise DataError(f"{self.unread} of {self.total} files not read")


def _write(
    target: Path,
    points: "np.ndarray",
    detections: "Detections",
    detector: "LionDetector",
    save: list[Kind],
    draw_threshold: float,
    facts: dict[str, Any],
    camera: "tuple[Calibration | None, tuple[int, int] | None]",
) -> None:
    from visionseq.lion.results import drawn_boxes, write_detections, write_kitti
    from visionseq.viz import bev_picture, save_png, save_scene

    names = detector.class_names
    if "json" in save:
        write_detections(f"{target}.json", detections, names, facts)
    if "kitti" in save:
        write_kitti(f"{target}.txt", detections, names, *camera)
    if "bev" in save:
        picture = bev_picture(points, detector.point_cloud_range, drawn_boxes(detections.above(draw_threshold), names))
        save_png(picture, f"{target}.png")
    if "html" in save:
        save_scene(f"{target}.html", points, drawn_boxes(detections, names), title=facts["frame"])
    if "rrd" in save:
        from visionseq.viz.rerun import save_rerun

        save_rerun(f"{target}.rrd", points, drawn_boxes(detections, names))
