"""ImageNet as WebDataset shards of 64x64 images: python datasets/imagenet64/prepare.py ILSVRC2012_img_train.tar"""

import sys
from pathlib import Path

from visionseq.cli import run_script


def prepare(
    source: Path,
    out: Path = Path("datasets/imagenet64/train"),
    size: int = 64,
    skip_corrupt: bool = False,
    overwrite: bool = False,
) -> str:
    """Write shards; classes are the sorted WordNet numbers (n01440764 is 0). An interrupted call goes on.

    Args:
        source: ILSVRC2012_img_train.tar (a tar of one tar per class), or a folder with one folder per class.
        out: Folder to write to.
        size: Height and width after the centre crop.
        skip_corrupt: Leave out damaged images instead of stopping.
        overwrite: Replace shards of other settings.
    """
    from visionseq.data.prepare import images_of, items_of, write_shards

    classes = sorted({item.folders[-1] for item in images_of(items_of(source)) if item.folders})
    number = {name: index for index, name in enumerate(classes)}
    labelled = ((number[item.folders[-1]], item) for item in images_of(items_of(source)) if item.folders)
    count = write_shards(labelled, out, size, classes, skip_corrupt=skip_corrupt, overwrite=overwrite)
    return f"{count} shards in {out}"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
