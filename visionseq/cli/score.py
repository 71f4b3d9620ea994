"""`visionseq score`: how near generated images are to real ones, in the features of a named network."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from visionseq.cli.device import DeviceName, choose_device
from visionseq.cli.option_types import PositiveInt
from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import complain, say
from visionseq.errors import ConfigError, DataError
from visionseq.files import write_json
from visionseq.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

    from visionseq.data.images import ImageDataset, MemoryImages
    from visionseq.data.pairs.dataset import PairDataset
    from visionseq.metrics.extractor import FeatureExtractor


def score(
    samples: Path,
    *,
    reference: str,
    features: str,
    out: Path | None = None,
    save_statistics: Path | None = None,
    neighbours: PositiveInt = 3,
    subsets: PositiveInt = 100,
    subset_size: PositiveInt = 1000,
    size: PositiveInt | None = None,
    batch_size: PositiveInt = 256,
    seed: int = 0,
    overwrite: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Measure generated images: Frechet distance, kernel distance (KID), precision and recall, as JSON.

    Figures of different feature networks are not comparable; the network is named beside them. Images are compared
    with 8 bits. A reference that is mean and covariance alone gives the Frechet distance only.

    Args:
        samples: An npz of images, `arr_0` uint8 [N, H, W, C], as `visionseq sample` writes it, or a folder of images.
        reference: Real images: an npz as above, an npz with `mu` and `sigma` (EDM's reference statistics), or what
            `visionseq inspect` reads: a folder of images, `digits` (all), `fashion_mnist` (the training images).
        features: Feature network: a name in the zoo, a model folder, or inception:FILE with the weights of
            Inception-v3 (pt_inception-2015-12-05-6726825d.pth), which makes the Frechet distance the FID.
        out: File to write the JSON to as well.
        save_statistics: Write mean and covariance of the reference images to this npz, for later scores.
        neighbours: Neighbour that bounds the balls of precision and recall.
        subsets: Subsets of the kernel distance.
        subset_size: Images in each subset.
        size: Height and width that image files are cropped to; default: the size of the first sample.
        batch_size: Images that the network sees at once.
        seed: Seed of the subsets.
        overwrite: Replace the files of an earlier call.
        device: Where the network runs.

    Examples:
        visionseq score out/samples.npz --reference digits --features features-digits
        visionseq score out/samples.npz --reference cifar10-32x32.npz --features inception:pt_inception.pth
        visionseq score my_images/ --reference photos/ --features inception:pt_inception.pth --size 256
    """
    from visionseq.metrics.comparison import compare_features, compare_statistics
    from visionseq.metrics.frechet import feature_statistics
    from visionseq.metrics.reference import load_statistics
    from visionseq.metrics.reference import save_statistics as write_statistics
    from visionseq.zoo.feature_network import feature_network

    claim_files(*(path for path in (out, save_statistics) if path is not None), overwrite=overwrite)
    network = feature_network(features).to(choose_device(device))
    images = _samples(samples, size)
    generated = _embed(network, images, f"features of {samples}", batch_size)
    if _holds_statistics(reference):
        if save_statistics is not None:
            raise ConfigError(f"--save-statistics: {reference} holds statistics already")
        result = compare_statistics(network.name, generated, load_statistics(reference))
    else:
        real = _embed(network, _real_images(reference, images), f"features of {reference}", batch_size)
        complain(f"comparing {len(generated)} with {len(real)} images")
        options = {"neighbours": neighbours, "subsets": subsets, "subset_size": subset_size, "seed": seed}
        result = compare_features(network.name, generated, real, **options)
        if save_statistics is not None:
            write_statistics(save_statistics, *feature_statistics(real))
    result |= {"samples": str(samples), "reference": reference}
    if out is not None:
        write_json(out, result)
    say(*json.dumps(result, indent=2).splitlines())


def _samples(path: Path, size: int | None) -> "ImageDataset":
    """Images of an npz, or of a folder, which are decoded to `size`, or to the size of the first of them."""
    if not path.is_dir():
        return _npz_images(path)
    from visionseq.data.decode import decode_image, image_channels
    from visionseq.data.image_folder import ImageFolder

    first, where = ImageFolder(path, size=1).read(0)
    channels = image_channels(first, where)
    return ImageFolder(path, size or min(decode_image(first, where).shape[1:]), channels)


def _npz_images(path: Path) -> "MemoryImages":
    import torch

    from visionseq.data.images import MemoryImages
    from visionseq.npz import Expected, read_npz

    array = read_npz(path, {"arr_0": Expected(axes=4, kinds="u", itemsize=1)})["arr_0"]
    if not array.size:
        raise DataError(f"{path}: `arr_0` of shape {list(array.shape)} holds no images")
    return MemoryImages(torch.from_numpy(array.copy()).permute(0, 3, 1, 2))


def _holds_statistics(reference: str) -> bool:
    from visionseq.npz import names_in

    return reference.endswith(".npz") and {"mu", "sigma"} <= names_in(reference)


def _real_images(reference: str, like: "ImageDataset") -> "ImageDataset | PairDataset":
    """Images of an npz or a data set; image files are decoded to the size of the samples."""
    if reference.endswith(".npz"):
        return _npz_images(Path(reference))
    from visionseq.data.opening import open_data

    return open_data(reference, like.size, like.channels)


def _embed(network: "FeatureExtractor", images: "ImageDataset | PairDataset", label: str, batch_size: int) -> "Tensor":
    """Features [N, D] on the CPU of all images, seen with 8 bits."""
    import numpy as np
    import torch

    from visionseq.viz import to_uint8

    device = next(network.parameters()).device
    features = []
    with progress(label, len(images), "images") as meter:
        for first in range(0, len(images), batch_size):
            batch = images.batch(np.arange(first, min(first + batch_size, len(images)))).image
            features.append(network(to_uint8(batch).to(device)).cpu())
            meter.advance(len(batch))
    return torch.cat(features)
