"""AFHQ v2 as class folders of 64x64 PNG images: python datasets/afhqv2/prepare.py afhq_v2.zip"""

import sys
from pathlib import Path

from visionseq.cli import run_script


def prepare(source: Path, out: Path = Path("datasets/afhqv2"), size: int = 64, skip_corrupt: bool = False) -> str:
    """Write `train` and `test`, each with the classes cat, dog and wild.

    Args:
        source: afhq_v2.zip, or the folder that it holds.
        out: Folder to write to; a split that exists is complete and is kept.
        size: Height and width after the centre crop.
        skip_corrupt: Leave out damaged images instead of stopping.
    """
    from visionseq.data.prepare import images_of, items_of, write_folder

    done = []
    for split in ("train", "test"):
        target = out / f"{split}{size}"
        if target.exists():  # complete, or it would not be there
            done.append(f"{target} exists and is kept")
            continue
        chosen = [item for item in images_of(items_of(source)) if item.folders[-2:-1] == [split]]
        named = [(f"{item.folders[-1]}/{Path(item.name).stem}", item) for item in chosen]
        done.append(f"{write_folder(named, target, size, skip_corrupt)} images in {target}")
    return "\n".join(done)


if __name__ == "__main__":
    sys.exit(run_script(prepare))
