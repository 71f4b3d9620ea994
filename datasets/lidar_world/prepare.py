"""Simulated streets as a folder in KITTI's layout: python datasets/lidar_world/prepare.py --root FOLDER"""

import sys
from collections.abc import Iterable
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_folder_of_results
from visionseq.errors import ConfigError
from visionseq.files import atomic_write
from visionseq.progress import progress


def prepare(
    root: Path = Path("datasets/lidar_world"),
    train: int = 400,
    val: int = 100,
    seed: int = 0,
    beams: int = 64,
    columns: int = 1024,
    database: bool = True,
    overwrite: bool = False,
) -> str:
    """Write simulated frames, their labels, the lists train, val and trainval, and the object database.

    Args:
        root: Folder to write to.
        train: Frames in ImageSets/train.txt.
        val: Frames in ImageSets/val.txt.
        seed: Seed of the streets.
        beams: Beams of the sensor.
        columns: Directions of one turn of the sensor.
        database: Write `root`/database, for ground-truth sampling.
        overwrite: Write into a folder that holds frames, lists or a database already.
    """
    from visionseq.data.lidar import Kitti, write_kitti
    from visionseq.data.lidar.prepare import write_database
    from visionseq.data.lidar_world import LidarSensor, LidarWorld

    if train < 1 or val < 1:
        raise ConfigError(f"train {train}, val {val}: expected at least one frame each")
    for name in ("training", "ImageSets", "database"):
        claim_folder_of_results(root / name, overwrite)
    world = LidarWorld(train + val, seed, LidarSensor(beams=beams, columns=columns))
    with progress("simulating frames", len(world), "frames") as meter:
        write_kitti(world, root, "trainval", progress=meter.advance)
    _write_list(root, "train", world.frame_ids[:train])
    _write_list(root, "val", world.frame_ids[train:])
    done = [f"{len(world)} frames in {root}"]
    if database:
        frames = Kitti(str(root), "train", fov_points_only=False)
        with progress("cutting out objects", len(frames), "frames") as meter:
            done.append(write_database(frames, root / "database", progress=meter.advance))
    return "\n".join(done)


def _write_list(root: Path, name: str, frame_ids: Iterable[str]) -> None:
    with atomic_write(root / "ImageSets" / f"{name}.txt", "w") as file:
        file.write("".join(f"{frame_id}\n" for frame_id in frame_ids))


if __name__ == "__main__":
    sys.exit(run_script(prepare))
