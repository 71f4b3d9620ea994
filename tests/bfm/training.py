"""A short training of either stage on random images, for tests and for the processes that they start."""

import sys
from pathlib import Path

import torch
from tiny import NETWORK, tiny_batch

from visionseq.bfm.task import BFMTask, FRNTask
from visionseq.data import ImageData
from visionseq.data.images import MemoryImages
from visionseq.optim.factory import OptimizerConfig
from visionseq.training import fit

OPTIMIZER = OptimizerConfig(lr=1e-3)


def images(n: int = 12) -> MemoryImages:
    batch = tiny_batch(n)
    return MemoryImages(batch.image, batch.label)


def first_stage(**options) -> BFMTask:
    torch.manual_seed(0)
    return BFMTask({**NETWORK, **options}, OPTIMIZER, sample_steps=[3])


def run(task: BFMTask | FRNTask, folder: Path, steps: int, batch_size: int = 6, **options):
    """Train in a run folder; validation after every second update."""
    data = ImageData(images(), batch_size, eval_dataset=images(5))
    intervals = {"checkpoint_every": 2, "log_every": 1, "picture_every": 1000}
    return fit(
        task,
        data,
        max_steps=steps,
        run_dir=folder,
        ema=0.9,
        progress=False,
        accelerator="cpu",
        val_check_interval=2,
        check_val_every_n_epoch=None,
        **intervals,
        **options,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    run(first_stage(), root / "whole", 4, devices=2, strategy="ddp")
    run(first_stage(), root / "absent", 4, batch_size=4, devices=2, strategy="ddp_find_unused_parameters_true")
    run(FRNTask(str(root / "whole"), OPTIMIZER, 1), root / "frn", 4, devices=2, strategy="ddp")
