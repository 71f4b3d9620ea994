"""`visionseq demo`: from digits to a one-step flow on this machine, in a few minutes."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from visionseq.cli.option_types import PositiveInt
from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say

ROW_LENGTH = 12


def demo(*, out: Path = Path("outputs/demo.png"), steps: PositiveInt = 2500, overwrite: bool = False) -> None:
    """Train an EDM teacher and an improved rectified flow on digits, and draw both side by side.

    The picture has a row of real digits, of the teacher used directly at 1 step, of the student at 1, 2 and 5 steps,
    and of the teacher's own sampler at 35 evaluations. The Fréchet distance of each row is printed.

    Args:
        out: The picture.
        steps: Updates of the teacher, and of the student.
        overwrite: Replace the picture of an earlier call.

    Examples:
        visionseq demo
        visionseq demo --out outputs/demo.png --steps 4000
    """
    import torch

    from visionseq import viz, zoo
    from visionseq.claims.rectified_flow.experiment import DIGITS, FEW_STEPS, Measure, run_seed
    from visionseq.data.images import to_float
    from visionseq.rectified_flow import EDMVelocity, edm_sample, sample

    claim_files(out, overwrite=overwrite)
    torch.set_num_threads(1)  # the network is so small that a second thread costs more than it brings
    experiment = replace(
        DIGITS, teacher_steps=steps, student_steps=steps, num_pairs=10_000, rows=("F",), num_samples=1000
    )
    with TemporaryDirectory() as work:
        say(f"training an EDM teacher ({steps} updates), its {experiment.num_pairs} pairs, and a student")
        scores = run_seed(experiment, 0, Path(work))
        teacher, student = zoo.load(Path(work, "teacher")), zoo.load(Path(work, "F"))
    noise = Measure(experiment, 0).noise(teacher, ROW_LENGTH)
    digits = experiment.images().images
    rows = {
        "real digits": to_float(digits[:: len(digits) // ROW_LENGTH][:ROW_LENGTH]),
        "teacher as a flow, 1 step": sample(EDMVelocity(teacher.model).eval(), noise, 1).x,
        **{f"rf++ student, {n} step{'s' * (n > 1)}": sample(student, noise, n).x for n in FEW_STEPS},
        "teacher, 35 evaluations": edm_sample(teacher, noise, experiment.pair_steps).x.float(),
    }
    viz.save_png(viz.labelled_rows(rows, "2-rectified flow++ on digits"), out)
    distances = ["", scores["teacher"]["distance"]["1"], *scores["F"]["distance"].values(), scores["teacher"]["heun"]]
    say(f"Fréchet distance to {len(digits)} real digits ({experiment.num_samples} samples, {experiment.features}):")
    for name, distance in zip(rows, distances, strict=True):
        say(f"  {name:<28}{distance if distance == '' else f'{distance:8.1f}'}")
    say(f"picture: {out}")
