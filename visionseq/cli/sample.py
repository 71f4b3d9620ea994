"""`visionseq sample`: images from a generative model, as a grid and as an npz in the layout of ADM's evaluator."""

import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visionseq.cli.device import DeviceName, choose_device
from visionseq.cli.guidance import ReductionName, RuleName, chosen_guidance, probe_ratio
from visionseq.cli.option_types import PositiveInt
from visionseq.cli.terminal import say
from visionseq.errors import ConfigError
from visionseq.progress import progress

if TYPE_CHECKING:
    from visionseq.cli.sample_files import Batch, SampleFiles
    from visionseq.flow.pipeline import SamplingPipeline
    from visionseq.saving.pretrained import PretrainedModel

SolverName = Literal["euler", "heun", "midpoint", "dopri5", "euler-maruyama", "stochastic-heun"]


def sample(
    model: str,
    *,
    num_samples: PositiveInt = 64,
    steps: PositiveInt | None = None,
    out: Path = Path("out"),
    seed: int = 0,
    batch_size: PositiveInt = 64,
    class_label: str | None = None,
    guidance: RuleName | None = None,
    guidance_scale: float | None = None,
    max_guidance_scale: float | None = None,
    alpha: float | None = None,
    reduction: ReductionName | None = None,
    guidance_interval: tuple[float, float] | None = None,
    guidance_rescale: float | None = None,
    probe: bool = False,
    solver: SolverName | None = None,
    rule: Literal["new", "default"] | None = None,
    weights: Literal["ema", "raw"] = "ema",
    png: bool = False,
    overwrite: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Draw images from a model: a grid, and all of them in an npz.

    Writes grid.png (the first 64 images) and samples.npz: `arr_0` uint8 [N, H, W, C], and for conditional models
    `arr_1` int64 [N], their classes. Image i depends on the seed and on i alone, whatever the batch size. Images are
    written as they come: the same command after an interruption goes on where it stopped, with the same result to the
    bit.

    Args:
        model: Name in the zoo, model folder, run folder, or hf://org/repo@revision.
        num_samples: Number of images.
        steps: Steps of the model's sampler; default: the model's own.
        out: Folder to write to.
        seed: Seed of the noise.
        batch_size: Images that are drawn at once.
        class_label: Class of all images, by name where the model keeps the names of its classes, or by number; default:
            random classes where the model has them.
        guidance: Rule of guidance; default: with --guidance-scale the model's own classifier-free guidance.
        guidance_scale: Scale of guidance; 1 switches it off.
        max_guidance_scale: Of raag, its largest scale.
        alpha: Of raag, how fast the scale falls with the size of the guidance.
        reduction: Of raag, over what that size is taken.
        guidance_interval: First and last time of guidance, in the model's clock.
        guidance_rescale: Share of the result that gets the spread of the prediction with the class, 0 to 1.
        probe: Print the size of the guidance in each step and an alpha for raag, and write nothing.
        solver: Of the ODE, or of the SDE where the model has one; default: the model's own.
        rule: Update rule of few-step rectified flows; default: the model's own.
        weights: Of a run, the averaged weights or those that the optimiser worked on.
        png: Write each image to out/images/ as well.
        overwrite: Replace the images of an earlier run in `out`.
        device: Where to run.

    Examples:
        visionseq sample rf-digits-2rf-pp --steps 1 --out out/
        visionseq sample --model runs/digits --num-samples 50000 --batch-size 500 --out out/
        visionseq sample rf-digits-edm --steps 18 --solver heun --seed 7 --png
        visionseq sample runs/afhq --class-label cat --guidance-scale 2
        visionseq sample runs/afhq --guidance raag --max-guidance-scale 18 --alpha 12
    """
    from visionseq.cli.sample_files import SampleFiles
    from visionseq.flow.pipeline import SamplingPipeline
    from visionseq.saving.fingerprint import fingerprint
    from visionseq.zoo.loading import load

    # what the sampler is asked for
    choices: dict[str, Any] = {"num_inference_steps": steps, "solver": solver, "rule": rule}
    constants = {
        "guidance_scale": guidance_scale,
        "max_guidance_scale": max_guidance_scale,
        "alpha": alpha,
        "reduction": reduction,
        "guidance_interval": guidance_interval,
        "guidance_rescale": guidance_rescale,
    }
    choices |= chosen_guidance(guidance, constants)

    def loaded() -> "PretrainedModel":
        network = load(model, weights=weights).to(choose_device(device))
        if class_label is not None:
            choices["class_labels"] = class_number(class_label, network.preprocessing.get("class_names", ()))
        return network

    # the probe writes nothing
    if probe:
        say(*probe_ratio(SamplingPipeline(loaded()), min(num_samples, batch_size), seed, choices))
        return

    # the images, to files as they come
    with SampleFiles(out, png, overwrite) as files:
        network = loaded()
        pipe = SamplingPipeline(network)
        options = {name: value for name, value in choices.items() if value is not None}
        settings = {
            "model": fingerprint(network),
            "num_samples": num_samples,
            "batch_size": batch_size,
            "seed": seed,
            "png": png,
            "device": pipe.device.type,
            **{name: repr(value) if name == "guidance" else value for name, value in options.items()},
        }
        ready = files.begin(settings)
        start = time.monotonic()
        drawn = _draw(pipe, files, ready, num_samples, batch_size, seed, options)
        seconds = time.monotonic() - start
        files.finish()
    rate = f"{drawn / max(seconds, 1e-9):.0f} images/s"
    news = "" if drawn == num_samples else f", {drawn} of them new"
    say(f"{num_samples} images of {model}{news} in {seconds:.1f} s ({rate}) on {pipe.device}, seed {seed}")
    say(files.grid, files.npz)


def class_number(label: str, names: Sequence[str]) -> int:
    """The number of a class by its name among `names`, or by its number."""
    if label in names:
        return list(names).index(label)
    if label.isdecimal():
        return int(label)
    if not names:
        raise ConfigError(f"class_label: {label!r}, expected a number, the model keeps no names of classes")
    close = get_close_matches(label, names, n=3) or list(names)[:20]
    raise ConfigError(
        f"class_label: {label!r}, expected a class of the model such as {', '.join(close)}, or its number"
    )


def _draw(
    pipe: "SamplingPipeline",
    files: "SampleFiles",
    ready: int,
    num_samples: int,
    batch_size: int,
    seed: int,
    options: dict[str, Any],
) -> int:
    """Draw the batches from number `ready` on and give each to `files`; returns the number of images drawn."""
    drawn = 0
    with progress("sampling", num_samples, "images", done=min(ready * batch_size, num_samples)) as meter:
        for number, first in enumerate(range(0, num_samples, batch_size)):
            if number >= ready:
                count = min(batch_size, num_samples - first)
                files.add(_batch(pipe, range(first, first + count), seed, options), number, first)
                meter.advance(count)
                drawn += count
    return drawn


def _batch(pipe: "SamplingPipeline", numbers: range, seed: int, options: dict[str, Any]) -> "Batch":
    from torch import Tensor

    from visionseq.cli.sample_files import Batch
    from visionseq.data.seeding import generator_for
    from visionseq.flow.pipeline import SamplingOutput
    from visionseq.viz import to_uint8

    generators = [generator_for(seed, number) for number in numbers]
    output = pipe(len(numbers), generator=generators, output_type="pt", **options)
    assert isinstance(output, SamplingOutput)
    assert isinstance(output.images, Tensor)  # as "pt" asks for
    images = to_uint8(output.images.cpu() * 2 - 1).permute(0, 2, 3, 1).numpy()
    return Batch(images, None if output.class_labels is None else output.class_labels.numpy())
