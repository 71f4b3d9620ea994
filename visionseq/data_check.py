"""Checks that images match the model that they train, before the first step and not hours later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionseq.errors import ConfigError

if TYPE_CHECKING:
    from lightning import Trainer


@dataclass(frozen=True)
class ImageModel:
    """The expectations of a model of images about its data.

    Args:
        name: of the model, for messages.
        shape: C, H, W of the images.
        num_classes: K; 0: labels are not used.
        class_names: the classes that the model was trained on, in the order of their numbers; empty: not known.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int
    class_names: Sequence[str] = ()


def check_images(model: ImageModel, data: Any) -> None:
    """Compare the training and the evaluation data of a data module with a model.

    Args:
        model: the expectations of the model.
        data: a data module of `visionseq.data`, whose sources may have a `dataset`.

    Raises `ConfigError` that names both sides: data other than images, images of another size or number of channels,
    missing labels, another number of classes, classes of other names or in another order.
    """
    kind = data.preprocessing.get("kind", "image")
    if kind not in ("image", "latent"):
        raise ConfigError(
            f"data: {type(data).__name__} holds {kind}, {model.name} is made for images of {_described(model.shape)}"
        )
    train, evaluation = (getattr(source, "dataset", None) for source in (data.train_source(), data.eval_source()))
    for dataset, name in ((train, "training data"), (evaluation, "evaluation data")):
        if dataset is None:
            continue
        _check_shape(model, dataset, name)
        if model.num_classes:
            _check_labels(model, dataset, name)
            check_class_names(dataset.class_names, name, model.class_names, "the model")
    if train is not None and evaluation is not None and model.num_classes:
        check_class_names(evaluation.class_names, "evaluation data", train.class_names, "the training data")


def check_resumed_classes(data: Any, checkpoint: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where a run would go on with classes of other names than those of its checkpoint.

    Args:
        data: the data module, or None, which has no names to compare.
        checkpoint: of visionseq's trainer.
    """
    if data is None:
        return
    trained = class_names_of(checkpoint.get("visionseq", {}).get("preprocessing", {}))
    check_class_names(class_names_of(data.preprocessing), "training data", trained, "the checkpoint")


def data_module_of(trainer: "Trainer") -> Any:
    """The data module that a trainer works on; None before it has one, and where it has loaders alone."""
    return getattr(trainer, "datamodule", None)  # which Lightning sets without declaring it


def class_names_of(preprocessing: Mapping[str, Any]) -> list[str]:
    """The class names that a model's preprocessing holds, or an empty list."""
    return list(preprocessing.get("class_names") or [])


def check_class_names(names: Sequence[str], name: str, expected: Sequence[str], source: str) -> None:
    """Raise `ConfigError` where both sides have class names and they differ; `name` and `source` say who they are."""
    if names and expected and list(names) != list(expected):
        raise ConfigError(
            f"{name}: classes {_listed(names)}, those of {source} are {_listed(expected)}; one number would mean two "
            "classes"
        )


def _check_shape(model: ImageModel, dataset: Any, name: str) -> None:
    shape = (dataset.channels, dataset.size, dataset.size)
    if shape != model.shape:
        raise ConfigError(
            f"{name}: images of {_described(shape)}, {model.name} is made for images of {_described(model.shape)}"
        )


def _check_labels(model: ImageModel, dataset: Any, name: str) -> None:
    names, expected = list(dataset.class_names), f"{model.name} has {model.num_classes} classes"
    if dataset.labels is None:
        raise ConfigError(f"{name}: no labels, {expected}")
    if names and len(names) != model.num_classes:
        raise ConfigError(f"{name}: {len(names)} classes ({_listed(names)}), {expected}")
    if len(dataset.labels) and int(dataset.labels.max()) >= model.num_classes:
        raise ConfigError(f"{name}: labels up to {int(dataset.labels.max())}, {expected}")


def _described(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels and {channels} channel{'s' if channels > 1 else ''}"


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
