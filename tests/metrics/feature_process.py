"""One of several processes that validate a classifier together: `feature_process.py OUT WORLD SAMPLES`; writes JSON."""

import json
import sys
from pathlib import Path

import torch
from lightning import Trainer

from visionseq.data import Digits, ImageData
from visionseq.metrics import FeatureTask
from visionseq.optim.factory import OptimizerConfig
from visionseq.training.exact_means import ExactMeans


def main(out: str, world: str, samples: str) -> None:
    torch.manual_seed(0)
    task = FeatureTask(OptimizerConfig(lr=1e-3))
    data = ImageData(Digits("train"), batch_size=2, eval_dataset=Digits("test"), limit=int(samples))
    trainer = Trainer(
        accelerator="cpu",
        devices=int(world),
        strategy="ddp" if int(world) > 1 else "auto",
        use_distributed_sampler=False,
        callbacks=[ExactMeans()],
        logger=False,
        enable_progress_bar=False,
    )
    (figures,) = trainer.validate(task, data, verbose=False)
    if trainer.is_global_zero:
        Path(out).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
