"""Parts of Lightning's tasks and trainers that Lightning does not declare."""

from typing import TypeVar, cast

from lightning import Callback, LightningModule, Trainer

from visionseq.saving.pretrained import PretrainedModel

CallbackType = TypeVar("CallbackType", bound=Callback)


def model_of(task: LightningModule) -> PretrainedModel:
    """The model that a task trains; every task of this package has one under `model`."""
    return cast(PretrainedModel, task.model)  # to a checker any attribute of a module is a tensor or a module


def find_callback(trainer: Trainer, kind: type[CallbackType]) -> CallbackType | None:
    """The first callback of a kind, or None."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by one of Lightning's connectors
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)
