"""Check the idx files of Fashion-MNIST and put them in one place: python datasets/fashion_mnist/prepare.py SOURCE"""

import sys
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_files
from visionseq.files import atomic_write


def prepare(source: Path, out: Path = Path("datasets/fashion_mnist/idx"), *, overwrite: bool = False) -> str:
    """Copy the idx files of a folder after reading them whole.

    Args:
        source: Folder with train-images-idx3-ubyte.gz and its three siblings, plain or .gz.
        out: Folder for `FashionMNIST(root=...)`.
        overwrite: Replace files that exist.
    """
    from visionseq.data.fashion_mnist import FashionMNIST

    files = sorted(source.glob("*-ubyte*"))
    claim_files(*(out / file.name for file in files), overwrite=overwrite)
    counts = [f"{len(FashionMNIST(split, root=source))} {split} images" for split in ("train", "test")]
    for file in files:
        with atomic_write(out / file.name) as copy:
            copy.write(file.read_bytes())
    return f"{' and '.join(counts)} in {out}"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
