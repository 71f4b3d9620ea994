"""KITTI as it was downloaded to what `Kitti` reads: python datasets/kitti/prepare.py --downloads FOLDER"""

import base64
import sys
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_folder_of_results
from visionseq.files import atomic_write
from visionseq.progress import progress

FILES = r"(?:^|/)((?:training|testing)/(?:velodyne|calib|label_2|image_2|planes)/\d{6}\.(?:bin|txt|png))$"
TRAINING, TESTING = 7481, 7518  # frames
# A bit for each training frame: 1 in the usual training half (3712 frames), 0 in the validation half (3769).
TRAIN_BITS = (
    "kX7iJqpeU8if8b+Z3Ufx1XSm7ja+GPjEQqbjXljC3Af0kTyni7miTiYycoxCGZMIlgCGOOXh821ArvMgOaBOUWq2W3iWzDQn+vDvN8DHFcbSXofp"
    "2sflRVfxmi0zlFe4Ic39bQCHbt75JhXs+4Czua9qY01HxHM1pIlqFv7cQMmP6s3I3oDh5TwpRoVqoEIhDc7zBOIM7PkZFUKBoKKAD7SkfgfZ/4Et"
    "DSbr9DFC6f7Ga25oiU/a2vk6Prnmk5B6HYtrUrksgFNJ2iuqj2rdVQ3vR7mpCBics/GYbdNlUM/LFnmUNu91YEjjaTBTlzv+YCEwn158t4Qa4hdB"
    "qaPBwRUd9oSYqfDmLSZOBf48KRusp7ccvkczHulMld9yRMDGRc56lRMHstiXVA448+zEMx5d3JD/kO1WpBr2OQXC13HDFLId3AXy65SlMes624s5"
    "0G3IKxAetQMpIvL+y5MxhNfEtjB7Ws/gK4BwttLzXL0mqAXtDTaKIM/tKA3MUFmOl15daMlV9Kg5Fbaa1KDtWsbNKRI2XsSvm2cvdlEVJMPPmswp"
    "8Frvn4KAB6mRT+4bewjdBgY8Xuo2Du5tGM9p9Hf/Mi1QaA/qssni8McH/KZk7X4PxKfHronnnVIl9cXLvvVnWRwpxYmrx2XlnpX1k5axX3UGD3vH"
    "FRsu6jdaiqZTILARBxTxAQdg/6Dn2JjwV3qNDGb86RMIwopcpJ4UsT9GGb42MYT8wBmIZtVVuU8IiXn2sjwF8eKz3BlZovTvBtVZFXYGl4M+SCCH"
    "kIER1IQXNsUbPOR6dMg5uG7tB8Bmj7piXCvZNCTYQ5RN/WqRhJdYq1dRO5AcJQgd2PqxPxJ6QiuhhFRhMNi9+YnJkxWudeaGVrcPYiSLGBip/mkm"
    "i5j/8/r8yNuiE8OOEpS837zP62VVHmB5wzFB5w/bDryMT5NFczNqvsZDG/IuYg7bS/+8DZco58HL3i/0L3u0irHiiBCI6s9jbYuW2RfSixF+QJSA"
    "VZDEyeh6FM3BiNtvVleqOz2Nxdda7eM9dJ/eiQVcf7GfQ5fhxDKDdQejlofojjYPghHh/TEJhWseh0IzgLXypSsdGNUjx+HeExGujkdJ0NnwWvgO"
    "aaGbLgQSQ5CaUWRiTfMzppBU1RaSroLFm9tfHDWGV2uR6VppRGzAGc4yaqJUAi7W+Wpbwk8b2YE1FO/cElSrqS1U8lGOCGYF5HjsyI8sKD53rDA6"
    "4YqCYF2CWhtcQakA"
)


def prepare(
    root: Path = Path("datasets/kitti"),
    downloads: Path | None = None,
    split: str = "train",
    *,
    database: bool = True,
    overwrite: bool = False,
) -> str:
    """Unpack the archives, write the lists of frames, and the object database for ground-truth sampling.

    Args:
        root: Folder to write to; see the README beside this file. Files that exist are kept.
        downloads: Folder with data_object_velodyne.zip, _calib.zip, _label_2.zip and _image_2.zip; default: nothing is
            unpacked, `root` holds training/ already.
        split: List in ImageSets/ whose objects to cut out.
        database: Write `root`/database, which reads every frame of the split.
        overwrite: Build the database again where it exists.
    """
    from visionseq.data.lidar import Kitti
    from visionseq.data.lidar.prepare import archives_in, unpack, write_database

    if database:
        claim_folder_of_results(root / "database", overwrite)
    done = []
    if downloads is not None:
        with progress("unpacking archives", len(archives_in(downloads)), "archives") as meter:
            done.append(unpack(downloads, root, FILES, meter.advance))
    done.append(_write_lists(root / "ImageSets"))
    if database:
        frames = Kitti(str(root), split, fov_points_only=False)
        with progress("cutting out objects", len(frames), "frames") as meter:
            done.append(write_database(frames, root / "database", progress=meter.advance))
    return "\n".join(done)


def _write_lists(folder: Path) -> str:
    import numpy as np

    is_train = np.unpackbits(np.frombuffer(base64.b64decode("".join(TRAIN_BITS)), np.uint8))[:TRAINING].astype(bool)
    lists = {
        "train": is_train.nonzero()[0],
        "val": (~is_train).nonzero()[0],
        "trainval": range(TRAINING),
        "test": range(TESTING),
    }
    for name, numbers in lists.items():
        if not (folder / f"{name}.txt").exists():
            with atomic_write(folder / f"{name}.txt", "w") as file:
                file.write("".join(f"{number:06d}\n" for number in numbers))
    return f"lists of frames in {folder}"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
