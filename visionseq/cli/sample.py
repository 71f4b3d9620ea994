"""`visionseq sample`: images from a generative model, as a grid and as an npz in the layout of ADM's evaluator."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visionseq.cli.device import DeviceName, choose_device
from visionseq.cli.option_types import PositiveInt
from visionseq.cli.progress import counted
from visionseq.cli.terminal import say
from visionseq.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

    from visionseq.flow.pipeline import SamplingPipeline

GRID_IMAGES = 64  # of all samples, the first so many are shown


def sample(
    model: str,
    *,
    num_samples: PositiveInt = 64,
    steps: PositiveInt | None = None,
    out: Path = Path("out"),
    seed: int = 0,
    batch_size: PositiveInt = 64,
    class_label: int | None = None,
    guidance_scale: float = 1.0,
    solver: Literal["euler", "heun"] | None = None,
    rule: Literal["new", "default"] | None = None,
    png: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Draw images from a model: a grid, and all of them in an npz.

    Writes grid.png (the first 64 images) and samples.npz: `arr_0` uint8 [N, H, W, C], and for conditional models
    `arr_1` int64 [N], their classes. Image i depends on the seed and on i alone, whatever the batch size.

    Args:
        model: Name in the zoo, model folder, run folder, or hf://org/repo@revision.
        num_samples: Number of images.
        steps: Steps of the model's sampler; default: the model's own.
        out: Folder to write to.
        seed: Seed of the noise.
        batch_size: Images that are drawn at once.
        class_label: Class of all images; default: random classes where the model has them.
        guidance_scale: Of classifier-free guidance; 1 is none.
        solver: ODE solver; default: the model's own.
        rule: Update rule of few-step rectified flows; default: the model's own.
        png: Write each image to out/images/ as well.
        device: Where to run.

    Examples:
        visionseq sample rf-digits-2rf-pp --steps 1 --out out/
        visionseq sample --model runs/digits --num-samples 50000 --batch-size 500 --out out/
        visionseq sample rf-digits-edm --steps 18 --solver heun --seed 7 --png
    """
    from visionseq import pipeline

    pipe = pipeline(model, device=choose_device(device))
    options = {
        "num_inference_steps": steps,
        "class_labels": class_label,
        "guidance_scale": None if guidance_scale == 1.0 else guidance_scale,
        "solver": solver,
        "rule": rule,
    }
    start = time.monotonic()
    images, labels = _draw(pipe, num_samples, batch_size, seed, options)
    seconds = time.monotonic() - start
    _write(out, images, labels, png)
    rate = f"{num_samples / max(seconds, 1e-9):.0f} images/s"
    say(f"{num_samples} images of {model} in {seconds:.1f} s ({rate}) on {pipe.device}, seed {seed}")
    say(out / "grid.png", out / "samples.npz")


def _draw(
    pipe: "SamplingPipeline", num_samples: int, batch_size: int, seed: int, options: dict[str, Any]
) -> "tuple[Tensor, Tensor | None]":
    """uint8 images [N, C, H, W] and their classes int64 [N] or None."""
    import torch

    from visionseq.data.seeding import generator_for
    from visionseq.viz import to_uint8

    images, labels = [], []
    with counted("sampling", num_samples) as advance:
        for first in range(0, num_samples, batch_size):
            numbers = range(first, min(first + batch_size, num_samples))
            generators = [generator_for(seed, number) for number in numbers]
            batch = pipe(len(numbers), generator=generators, output_type="pt", **options)
            images.append(to_uint8(batch.images.cpu() * 2 - 1))
            labels.append(batch.class_labels)
            advance(len(numbers))
    return torch.cat(images), None if labels[0] is None else torch.cat(labels)


def _write(out: Path, images: "Tensor", labels: "Tensor | None", png: bool) -> None:
    import numpy as np

    from visionseq.viz import image_grid, save_png, to_pil

    arrays = [images.permute(0, 2, 3, 1).numpy()] + ([] if labels is None else [labels.numpy()])
    with atomic_write(out / "samples.npz") as file:
        np.savez(file, *arrays)
    save_png(image_grid(images[:GRID_IMAGES]), out / "grid.png")
    if png:
        for number in range(len(images)):
            (picture,) = to_pil(images[number : number + 1])
            save_png(picture, out / "images" / f"{number:06d}.png")
