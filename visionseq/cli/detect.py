"""`visionseq detect`: boxes in point clouds from files, as JSON, KITTI lines, a picture and a 3D page."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import PositiveInt

from visionseq.cli.device import DeviceName, choose_device
from visionseq.cli.progress import counted
from visionseq.errors import ConfigError

if TYPE_CHECKING:
    from visionseq.geometry import Calibration
    from visionseq.lion import Detections, LionDetector

Kind = Literal["bev", "json", "kitti", "html", "rrd"]


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
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    intensity_scale: float = 1.0,
    limit: PositiveInt | None = None,
    device: DeviceName = "auto",
) -> None:
    """Detect objects in point clouds: a file, all files of a folder (one after the other), or a glob pattern.

    Reads .bin (float32 rows), .npy, .pcd, .ply, .las, .laz and .feather, and writes NAME.json, NAME.png and the like
    for each file. The points go the way that `visionseq test` takes with the model's own preprocessing, one frame at a
    time, so the boxes are the same to the bit. Boxes are in the lidar frame of the file: x forward, y left, z up,
    metres; a model for another sensor or another height above the ground finds what it finds.

    Args:
        model: Name in the zoo, model folder, run folder, or hf://org/repo@revision.
        input: File, folder or glob pattern.
        out: Folder to write to.
        score_threshold: Boxes below are left out everywhere.
        draw_threshold: Boxes below are left out of the picture (the 3D page has a slider).
        save: What to write: bev (picture from above), json, kitti (result lines), html (3D page), rrd (for Rerun).
        columns: Of .bin files, 3 to 6; default: 4, or 5 for .pcd.bin.
        calib: KITTI calibration file, or a folder of them with the names of the inputs; for exact KITTI lines.
        shift: Added to x, y, z of the points before the model, in metres, and taken off the boxes: a sensor that
            stands 0.5 m higher than the model's wants 0 0 0.5.
        intensity_scale: Factor on the intensity; 0.00392 for values of 0 to 255 and a model of 0 to 1.
        limit: Only the first so many files.
        device: Where to run.

    Examples:
        visionseq detect lion-mamba-lidarworld --input scan.bin --out out/
        visionseq detect runs/mamba_lidar_world --input 'drive/*.pcd' --save json,kitti --score-threshold 0.3
        visionseq detect lion-mamba-lidarworld --input kitti/training/velodyne --calib kitti/training/calib --save kitti
    """
    from visionseq.data.point_files import find_point_files, read_points
    from visionseq.lion import load_detector
    from visionseq.lion.inference import FrameInput, detect_frame

    if "rrd" in save:
        from visionseq.viz.rerun import check_rerun

        check_rerun()
    detector = load_detector(model).to(choose_device(device))
    files = find_point_files(input)[:limit]
    counts: Counter[str] = Counter()
    seconds = 0.0
    with counted("detecting", len(files)) as advance:
        for path in files:
            frame = FrameInput.of(read_points(path, columns), detector, shift, intensity_scale, str(path))
            start = time.monotonic()
            found = detect_frame(detector, frame).above(score_threshold)
            seconds += time.monotonic() - start
            counts.update(detector.class_names[label - 1] for label in found.labels.tolist())
            _write(out, path, frame.points, found, detector, save, draw_threshold, _calibration(calib, path), model)
            advance(1)
    named = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    print(f"{len(files)} frames in {seconds:.1f} s ({len(files) / max(seconds, 1e-9):.2f} frames/s): {named}")
    print(out)


def _write(
    out: Path,
    path: Path,
    points: "object",
    found: "Detections",
    detector: "LionDetector",
    save: list[Kind],
    draw_threshold: float,
    calibration: "Calibration | None",
    model: str,
) -> None:
    from visionseq.lion.results import drawn_boxes, write_detections, write_kitti
    from visionseq.viz import bev_picture, save_png, save_scene

    names = detector.class_names
    stem = out / path.name.removesuffix(path.suffix).removesuffix(".pcd")
    if "json" in save:
        write_detections(stem.with_name(stem.name + ".json"), found, names, {"frame": path.name, "model": model})
    if "kitti" in save:
        write_kitti(stem.with_name(stem.name + ".txt"), found, names, calibration)
    if "bev" in save:
        picture = bev_picture(points, detector.point_cloud_range, drawn_boxes(found.above(draw_threshold), names))
        save_png(picture, stem.with_name(stem.name + ".png"))
    if "html" in save:
        save_scene(stem.with_name(stem.name + ".html"), points, drawn_boxes(found, names), title=path.name)
    if "rrd" in save:
        from visionseq.viz.rerun import save_rerun

        save_rerun(stem.with_name(stem.name + ".rrd"), points, drawn_boxes(found, names))


def _calibration(calib: Path | None, path: Path) -> "Calibration | None":
    if calib is None:
        return None
    from visionseq.geometry import Calibration

    file = calib / f"{path.stem}.txt" if calib.is_dir() else calib
    if not file.is_file():
        raise ConfigError(f"calib: {file} is not there")
    return Calibration.from_file(file)
