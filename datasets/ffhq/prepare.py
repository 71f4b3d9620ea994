"""FFHQ as WebDataset shards of 64x64 images: python datasets/ffhq/prepare.py images1024x1024/"""

import sys
from pathlib import Path

from visionseq.cli import run_script


def prepare(
    source: Path,
    out: Path = Path("datasets/ffhq/shards64"),
    size: int = 64,
    skip_corrupt: bool = False,
    overwrite: bool = False,
) -> str:
    """Write shards without classes, in the order of the images' names; an interrupted call goes on.

    Args:
        source: images1024x1024 or thumbnails128x128 as folder, zip or tar.
        out: Folder to write to.
        size: Height and width.
        skip_corrupt: Leave out damaged images instead of stopping.
        overwrite: Replace shards of other settings.
    """
    from visionseq.data.prepare import images_of, items_of, write_shards

    images = sorted(images_of(items_of(source)), key=lambda item: Path(item.name).name)
    count = write_shards([(None, item) for item in images], out, size, skip_corrupt=skip_corrupt, overwrite=overwrite)
    return f"{count} shards in {out}"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
