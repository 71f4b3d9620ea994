"""nuScenes as it was downloaded to what `NuScenes` reads: python datasets/nuscenes/prepare.py --val FILE"""

import re
import sys
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_files, claim_folder_of_results
from visionseq.errors import DataError
from visionseq.files import atomic_write
from visionseq.progress import progress

FILES = r"(?:^|/)((?:samples|sweeps)/LIDAR_TOP/[^/]+\.pcd\.bin|v1\.0-\w+/\w+\.json)$"
SCENE = re.compile(r"scene-\d{4}")


def prepare(
    root: Path = Path("datasets/nuscenes"),
    downloads: Path | None = None,
    version: str = "v1.0-trainval",
    val: Path | None = None,
    sweeps: int = 10,
    database: bool = True,
    overwrite: bool = False,
) -> str:
    """Unpack the archives, index the tables, write the lists of scenes, and the database for ground-truth sampling.

    Args:
        root: Folder to write to; see the README beside this file. Files that exist are kept.
        downloads: Folder with the .tgz or .tar archives; default: nothing is unpacked.
        version: Name of the tables' folder.
        val: Text file with the names of the validation scenes (scene-0003 ...); all others are for training. Default:
            `root`/train.txt and val.txt exist.
        sweeps: Keyframe and earlier sweeps together, of the objects in the database.
        database: Write `root`/database from the scenes in train.txt, which reads every training frame.
        overwrite: Replace the lists of scenes, and build the database again, where they exist.
    """
    from visionseq.data.lidar import NuScenes
    from visionseq.data.lidar.nuscenes_index import open_index
    from visionseq.data.lidar.prepare import archives_in, unpack, write_database
    from visionseq.geometry import NEAREST

    if val is not None:
        claim_files(root / "train.txt", root / "val.txt", overwrite=overwrite)
    if database:
        claim_folder_of_results(root / "database", overwrite)
    done = []
    if downloads is not None:
        with progress("unpacking archives", len(archives_in(downloads)), "archives") as meter:
            done.append(unpack(downloads, root, FILES, meter.advance))
    names = open_index(root / version)["scene_name"].tolist()
    done.append(f"{len(names)} scenes in {root / version}")
    if val is not None:
        done.append(_write_lists(root, names, val))
    if database:
        frames = NuScenes(str(root), version, str(root / "train.txt"), sweeps)
        with progress("cutting out objects", len(frames), "frames") as meter:
            done.append(write_database(frames, root / "database", NEAREST, progress=meter.advance))
    return "\n".join(done)


def _write_lists(root: Path, names: list[str], path: Path) -> str:
    from visionseq.text_files import read_text

    val = set(SCENE.findall(read_text(path)))
    lists = {"train": [name for name in names if name not in val], "val": [name for name in names if name in val]}
    if not lists["train"] or not lists["val"]:
        found = f"{len(lists['val'])} of the {len(names)} scenes of these tables"
        raise DataError(f"{path}: names {found}, expected those of the validation set alone")
    for split, chosen in lists.items():
        with atomic_write(root / f"{split}.txt", "w") as file:
            file.write("".join(f"{name}\n" for name in chosen))
    return f"{len(lists['train'])} scenes in {root / 'train.txt'}, {len(lists['val'])} in {root / 'val.txt'}"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
