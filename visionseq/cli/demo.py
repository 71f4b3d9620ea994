"""`visionseq demo`: from digits to a one-step flow on this machine, in a few minutes."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from visionseq.cli.option_types import PositiveInt
from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say

if TYPE_CHECKING:
    from torch import Tensor

    from visionseq.claims.rectified_flow.experiment import Measure
    from visionseq.rectified_flow import EDMDenoiser, EDMVelocity

ROW = "E"
ROW_LENGTH = 12
WAYS = ("teacher as a flow, 1 step", "student, 1 step", "student, 2 steps", "teacher, 35 evaluations")


def demo(*, out: Path = Path("outputs/demo.png"), steps: PositiveInt = 2500, overwrite: bool = False) -> None:
    """Train an EDM teacher and an improved rectified flow on digits, and draw them beside the models of the zoo.

    The networks trained here are small. The picture has a row of real digits; then, once for what was trained here and
    once for the zoo's models, the teacher used directly at 1 step, the student at 1 and 2 steps, and the teacher's own
    sampler at 35 evaluations. The Fréchet distance of each row is printed.

    Args:
        out: The picture.
        steps: Updates of the teacher, and of the student.
        overwrite: Replace the picture of an earlier call.

    Examples:
        visionseq demo
        visionseq demo --out outputs/demo.png --steps 4000
    """
    import torch

    from visionseq import viz
    from visionseq.claims.rectified_flow.experiment import DIGITS, Measure, run_seed
    from visionseq.claims.rectified_flow.factors import made_small
    from visionseq.data.images import to_float
    from visionseq.rectified_flow import EDMDenoiser, EDMVelocity
    from visionseq.zoo.loading import load_as

    # Train a small teacher and its student.
    claim_files(out, overwrite=overwrite)
    torch.set_num_threads(1)  # the network is so small that a second thread costs more than it brings
    experiment = replace(
        made_small(DIGITS, "network"),
        teacher_steps=steps,
        student_steps=steps,
        num_pairs=10_000,
        rows=(ROW,),
        num_samples=1000,
    )
    with TemporaryDirectory() as work:
        say(f"training an EDM teacher ({steps} updates), its {experiment.num_pairs} pairs, and a student")
        scores_here = run_seed(experiment, 0, Path(work))
        trained = load_as(EDMDenoiser, Path(work, "teacher")), load_as(EDMVelocity, Path(work, ROW))

    # Draw and score it beside the zoo's models, all from the same noise.
    shipped = load_as(EDMDenoiser, "rf-digits-edm"), load_as(EDMVelocity, "rf-digits-2rf-pp")
    measure = Measure(experiment, 0)
    scores_of_zoo = {"teacher": measure.teacher(shipped[0]), ROW: measure.few_steps(shipped[1])}
    digits = experiment.images().images
    rows = {"real digits": to_float(digits[:: len(digits) // ROW_LENGTH][:ROW_LENGTH])}
    distances: dict[str, float] = {}
    for place, models, scores in (("zoo", shipped, scores_of_zoo), ("trained here", trained, scores_here)):
        rows |= {f"{place}: {name}": images for name, images in _images(measure, *models).items()}
        distances |= {f"{place}: {name}": distance for name, distance in _distances(scores).items()}
    viz.save_png(viz.labelled_rows(rows, "2-rectified flow++ on digits"), out)
    say(f"Fréchet distance to {len(digits)} real digits ({experiment.num_samples} samples, {experiment.features}):")
    for name, distance in distances.items():
        say(f"  {name:<40}{distance:8.1f}")
    say(f"picture: {out}")


def _images(measure: "Measure", teacher: "EDMDenoiser", student: "EDMVelocity") -> dict[str, "Tensor"]:
    """A row of images [N, C, H, W] per way to make them."""
    from visionseq.rectified_flow import EDMVelocity, edm_sample, sample

    noise = measure.noise(teacher, ROW_LENGTH)
    flow = EDMVelocity(teacher.model, sigma_data=teacher.sigma_data).eval()
    heun = edm_sample(teacher, noise, measure.experiment.pair_steps).x.float()
    images = (sample(flow, noise, 1).x, sample(student, noise, 1).x, sample(student, noise, 2).x, heun)
    return dict(zip(WAYS, images, strict=True))


def _distances(scores: dict[str, Any]) -> dict[str, float]:
    """The Fréchet distance of each row's way to make images."""
    teacher, student = scores["teacher"], scores[ROW]["distance"]
    distances = teacher["distance"]["1"], student["1"], student["2"], teacher["heun"]
    return dict(zip(WAYS, distances, strict=True))
