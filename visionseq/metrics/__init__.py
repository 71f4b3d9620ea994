"""Scores of generated images, detection metrics, and what they are measured with; loaded when first used."""

import importlib

LOADABLE = ("FeatureCNN",)  # what a model folder may name: see visionseq.zoo.table
_HOMES = {
    "Argoverse2AP": "visionseq.metrics.detection",
    "KittiAP": "visionseq.metrics.detection",
    "NuScenesNDS": "visionseq.metrics.detection",
    "OnceAP": "visionseq.metrics.detection",
    "WaymoAP": "visionseq.metrics.detection",
    "FeatureCNN": "visionseq.metrics.features",
    "FeatureExtractor": "visionseq.metrics.extractor",
    "FeatureTask": "visionseq.metrics.task",
    "FrechetDistance": "visionseq.metrics.image_scores",
    "InceptionFeatures": "visionseq.metrics.inception",
    "KernelDistance": "visionseq.metrics.image_scores",
    "PrecisionRecall": "visionseq.metrics.image_scores",
    "feature_statistics": "visionseq.metrics.frechet",
    "compare_features": "visionseq.metrics.comparison",
    "frechet_distance": "visionseq.metrics.frechet",
    "load_statistics": "visionseq.metrics.reference",
    "save_statistics": "visionseq.metrics.reference",
}
_NEED_TRAIN = {
    "visionseq.metrics.detection": "torchmetrics",
    "visionseq.metrics.task": "lightning",
    "visionseq.metrics.image_scores": "torchmetrics",
    "visionseq.metrics.comparison": "torchmetrics",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:  # PEP 562: a distance needs no trainer
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if home in _NEED_TRAIN:
        from visionseq.errors import import_extra

        import_extra(_NEED_TRAIN[home], "train")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
