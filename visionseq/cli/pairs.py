"""`visionseq pairs`: the pairs (noise, image) of a teacher that a reflow student is trained on."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionseq.cli.device import DeviceName, choose_device
from visionseq.cli.option_types import PositiveInt
from visionseq.cli.terminal import say
from visionseq.errors import ConfigError

if TYPE_CHECKING:
    from visionseq.data.images import ImageDataset
    from visionseq.rectified_flow.pair_generation import Teacher

DRAWN = 30_000  # pairs of a call without a number


def pairs(
    model: str,
    *,
    num_pairs: PositiveInt | None = None,
    steps: PositiveInt | None = None,
    solver: Literal["heun", "euler"] = "heun",
    seed: int = 0,
    out: Path = Path("pairs"),
    format: Literal["shards", "zip"] = "shards",
    batch_size: PositiveInt = 256,
    guidance_scale: float = 1.0,
    invert: str | None = None,
    skip_corrupt: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Generate the pairs (noise, image) of a teacher, or those that are still missing after an interruption.

    An EDM teacher turns noise into images by its ODE, a rectified flow by its sampler (for the next reflow). Classes of
    a conditional model are drawn uniformly. With --invert, real images are carried to noise instead.

    Args:
        model: Name in the zoo, model folder, run folder, or hf://org/repo@revision.
        num_pairs: Number of pairs; a larger number than before adds to those that exist. Default: 30,000, or with
            --invert one for each image.
        steps: Noise levels of an EDM teacher, evaluations of a rectified flow; default: 18 below 64x64 pixels and 40
            from there on, for a rectified flow 35.
        solver: ODE solver.
        seed: Seed of the noise.
        out: Folder to write to.
        format: Safetensors shards, fastest to train from, or the zip layout of the official code.
        batch_size: Pairs that go through the model at once.
        guidance_scale: Of classifier-free guidance; 1 is none.
        invert: Real images instead of drawn noise: digits, fashion_mnist, or a folder of images.
        skip_corrupt: Leave out images of the folder that cannot be read, instead of stopping.
        device: Where to run.

    Examples:
        visionseq pairs --model rf-digits-edm --num-pairs 30000 --steps 18 --out pairs/
        visionseq pairs runs/cifar10 --num-pairs 1000000 --batch-size 512 --format zip --out pairs/cifar10
        visionseq pairs rf-digits-edm --invert digits --out pairs/real
    """
    from visionseq.data.pairs import open_pair_writer
    from visionseq.rectified_flow.pair_generation import (
        DrawnPairs,
        InvertedPairs,
        PairRecipe,
        load_teacher,
        write_pairs,
    )

    if invert and format == "zip":
        raise ConfigError(
            "format: zip keeps the states of a noise generator, which inverted images do not have; use shards"
        )
    if invert and guidance_scale != 1.0:
        raise ConfigError(f"guidance_scale: {guidance_scale}, expected 1 with --invert")
    teacher, recipe = load_teacher(model).to(choose_device(device)), PairRecipe(steps, solver, seed, guidance_scale)
    source: DrawnPairs | InvertedPairs
    if invert:
        source = InvertedPairs(teacher, _images(invert, teacher, skip_corrupt), recipe, num_pairs)
    else:
        source = DrawnPairs(teacher, num_pairs or DRAWN, recipe)
    start = time.monotonic()
    with open_pair_writer(out, format, teacher.preprocessing, source.recipe) as writer:
        made = write_pairs(source, writer, batch_size, f"pairs of {model}")
    seconds = time.monotonic() - start
    say(f"{len(source)} pairs of {model}, {made} of them new in {seconds:.1f} s ({made / max(seconds, 1e-9):.0f}/s)")
    say(out)


def _images(name: str, teacher: "Teacher", skip_corrupt: bool) -> "ImageDataset":
    from visionseq.data import Digits, FashionMNIST, ImageFolder

    built_in = {"digits": Digits, "fashion_mnist": FashionMNIST}
    if name in built_in:
        return built_in[name]()
    if not Path(name).is_dir():
        raise ConfigError(f"invert: {name!r}, expected one of {', '.join(built_in)} or a folder of images")
    size, channels = teacher.img_resolution, teacher.in_channels
    return ImageFolder(name, size=size, channels=channels, skip_corrupt=skip_corrupt)
