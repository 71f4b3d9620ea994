"""Whether data and model belong together, asked before the first step and not hours later."""

from collections.abc import Mapping, Sequence
from typing import Any

from visionseq.errors import ConfigError
from visionseq.flow.pipeline import SamplingModel


def check_data(model: SamplingModel, data: Any, class_names: Sequence[str] = (), training: bool = True) -> None:
    """Compare the data of a data module with a generative model.

    Args:
        model: offers `sample_shape` (C, H, W) and `label_dim`.
        data: a data module of `visionseq.data`, whose sources may have a `dataset`.
        class_names: the classes that the model was trained on, in the order of their numbers; empty: unknown.
        training: look at the training data as well as at the evaluation data.

    Raises `ConfigError` that names both sides: images of another size or number of channels, missing labels, another
    number of classes, classes of other names or in another order.
    """
    first = getattr(data.train_source(), "dataset", None) if training else None
    second = getattr(data.eval_source(), "dataset", None)
    for dataset, name in ((first, "training data"), (second, "evaluation data")):
        if dataset is None:
            continue
        _check_images(model, dataset, name)
        if model.label_dim:
            _check_labels(model, dataset, name)
            check_class_names(dataset, name, class_names, "the model")
    if first is not None and second is not None and model.label_dim:
        check_class_names(second, "evaluation data", first.class_names, "the training data")


def class_names_of(preprocessing: Mapping[str, Any]) -> list[str]:
    """The class names that a model's preprocessing holds, or an empty list."""
    return list(preprocessing.get("class_names") or [])


def check_class_names(dataset: Any, name: str, expected: Sequence[str], source: str) -> None:
    """Raise `ConfigError` where both sides have class names and they differ; `name` and `source` say who they are."""
    names = list(dataset.class_names)
    if names and expected and names != list(expected):
        raise ConfigError(
            f"{name}: classes {_listed(names)}, those of {source} are {_listed(expected)}; one number would mean two "
            "classes"
        )


def _check_images(model: SamplingModel, dataset: Any, name: str) -> None:
    images, expected = (dataset.channels, dataset.size, dataset.size), tuple(model.sample_shape)
    if images != expected:
        raise ConfigError(
            f"{name}: images of {_described(images)}, {type(model).__name__} makes images of {_described(expected)}"
        )


def _check_labels(model: SamplingModel, dataset: Any, name: str) -> None:
    classes, names = model.label_dim, list(dataset.class_names)
    conditional = f"{type(model).__name__} is conditional on {classes} classes"
    if dataset.labels is None:
        raise ConfigError(f"{name}: no labels, {conditional}")
    if names and len(names) != classes:
        raise ConfigError(f"{name}: {len(names)} classes ({_listed(names)}), {conditional}")
    if len(dataset.labels) and int(dataset.labels.max()) >= classes:
        raise ConfigError(f"{name}: labels up to {int(dataset.labels.max())}, {conditional}")


def _described(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels and {channels} channel{'s' if channels > 1 else ''}"


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
