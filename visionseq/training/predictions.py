"""The files of `visionseq predict`: one npz for each batch, or the task's own form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from visionseq.files import atomic_write
from visionseq.training.run_folder import PREDICTIONS


class Predictions(BasePredictionWriter):
    """Writes predictions/batch_00000000.npz and the like: `prediction` [B, ...], and `index` [B], if the batch has one.

    A task whose predictions are not arrays has a method `write_predictions(folder, prediction, batch)` instead.
    """

    def __init__(self):
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        write_predictions = getattr(pl_module, "write_predictions", None)
        if write_predictions is not None:
            write_predictions(Path(trainer.default_root_dir) / PREDICTIONS, prediction, batch)
            return
        arrays = {"prediction": prediction.float().cpu().numpy()}
        if getattr(batch, "index", None) is not None:
            arrays["index"] = batch.index.cpu().numpy()
        number = batch_idx * trainer.world_size + trainer.global_rank
        with atomic_write(Path(trainer.default_root_dir) / PREDICTIONS / f"batch_{number:08d}.npz") as file:
            np.savez(file, **arrays)
