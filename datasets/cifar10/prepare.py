"""CIFAR-10 as class folders of PNG images: python datasets/cifar10/prepare.py cifar-10-binary.tar.gz"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visionseq.cli import run_script
from visionseq.errors import DataError

if TYPE_CHECKING:
    from visionseq.data.prepare import Item

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_RECORD = 1 + 3 * 32 * 32  # a label, then the pixels, channel by channel


def prepare(source: Path, out: Path = Path("datasets/cifar10")) -> str:
    """Write `train` (50,000 images) and `test` (10,000).

    Args:
        source: cifar-10-binary.tar.gz, or the folder that it holds. The "python version" is a pickle and not read.
        out: Folder to write to; a split that exists is complete and is kept.
    """
    from visionseq.data.prepare import items_of, write_folder

    files = {Path(item.name).name: item for item in items_of(source)}
    done = []
    for split, names in {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}.items():
        target = out / split
        if target.exists():  # complete, or it would not be there
            done.append(f"{target} exists and is kept")
            continue
        missing = [name for name in names if name not in files]
        if missing:
            raise DataError(f"{source}: no {', '.join(missing)}; expected cifar-10-binary.tar.gz")
        count = write_folder(_images([files[name] for name in names]), target, 32)
        done.append(f"{count} images in {target}")
    return "\n".join(done)


def _images(batches: "list[Item]") -> "Iterator[tuple[str, Item]]":
    import numpy as np

    from visionseq.data.decode import encode_png
    from visionseq.data.prepare import Item

    count = 0
    for batch in batches:
        data = batch.read()
        if len(data) % _RECORD or not data:
            raise DataError(f"{batch.where}: {len(data)} bytes, expected a multiple of {_RECORD}")
        for row in np.frombuffer(data, np.uint8).reshape(-1, _RECORD):
            if row[0] >= len(CLASSES):
                raise DataError(f"{batch.where}: class {row[0]}, expected 0 to 9")
            name = f"{CLASSES[row[0]]}/{count:05d}"
            yield name, Item(name, partial(encode_png, row[1:].reshape(3, 32, 32)), batch.where)
            count += 1


if __name__ == "__main__":
    sys.exit(run_script(prepare))
