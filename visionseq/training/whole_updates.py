"""Gradient accumulation over an endless stream: every update takes the same number of batches."""

from lightning import Callback, LightningModule, Trainer

from visionseq.errors import ConfigError


class WholeUpdates(Callback):
    """Refuses an epoch that is no multiple of `accumulate_grad_batches`: its last update would take fewer batches."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
        if batches != float("inf") and batches % accumulated:
            raise ConfigError(
                f"accumulate_grad_batches is {accumulated}, an epoch has {batches} batches, expected a multiple; the "
                "data's samples_per_epoch sets it, and --trainer.limit_train_batches"
            )
