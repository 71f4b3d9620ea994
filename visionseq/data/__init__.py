"""The data pipeline: map-style data sets, typed batches, one sampler whose whole state is an integer.

Names load what they need when they are first used (PEP 562).
"""

import importlib

_HOMES = {
    "Batch": "visionseq.data.batch",
    "ImageBatch": "visionseq.data.batch",
    "PairBatch": "visionseq.data.batch",
    "PointCloudBatch": "visionseq.data.lidar.batch",
    "PointCloudData": "visionseq.data.lidar.data",
    "PairData": "visionseq.data.pair_data",
    "DataModule": "visionseq.data.module",
    "ImageData": "visionseq.data.image_data",
    "ImageDataset": "visionseq.data.images",
    "ImageFolder": "visionseq.data.image_folder",
    "HuggingFaceImages": "visionseq.data.huggingface",
    "WebDatasetImages": "visionseq.data.webdataset",
    "LatentShards": "visionseq.data.latents",
    "LoaderOptions": "visionseq.data.loader",
    "Digits": "visionseq.data.digits",
    "FashionMNIST": "visionseq.data.fashion_mnist",
    "GlobalDraw": "visionseq.data.seeding",
    "generator_for": "visionseq.data.seeding",
    "seed_of": "visionseq.data.seeding",
}
_NEED_TRAIN = {f"visionseq.data.{name}" for name in ("module", "image_data", "pair_data", "lidar.data")}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if home in _NEED_TRAIN:
        from visionseq.errors import import_extra

        import_extra("lightning", "train")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
