"""Samplers, inversion and the teacher's ODE against vectors of the official implementation."""

from golden_vector import GoldenVector, close
from torch import Tensor

from rectified_flow_handlers.models import denoiser_of, one_hot, velocity_of
from visionseq.data.pairs.noise import noise_from_record
from visionseq.rectified_flow.inversion import integrate_to_noise, slerp
from visionseq.rectified_flow.sampling import sample
from visionseq.rectified_flow.teacher import edm_sample, edm_sigmas, to_uint8


def check_sampler(vector: GoldenVector) -> None:
    model, labels = velocity_of(vector.config, vector.state), one_hot(vector)
    for name, run in vector.config["runs"].items():
        solver = run["solver"]
        if "sampler" in run:
            trajectory = sample(
                model, vector["in/z"], run["N"], solver, run["sampler"], run.get("time_schedule"), class_labels=labels
            )
        else:
            trajectory = integrate_to_noise(model, vector["in/inv_start"], run["N"], solver, labels)
        close(trajectory.states, vector[f"out/{name}/traj"], 2e-4)
        for key in ("x0hat", "zhat"):
            if f"out/{name}/{key}" in vector:
                close(trajectory.predictions, vector[f"out/{name}/{key}"], 2e-4)
        if f"out/{name}/straightness" in vector:
            close(trajectory.straightness(), vector[f"out/{name}/straightness"], 2e-4)
            close(trajectory.straightness().mean(), vector[f"out/{name}/straightness_mean"], 2e-4)
    if "out/slerp" in vector:
        close(slerp(vector["in/slerp_a"], vector["in/slerp_b"], vector["in/slerp_w"]), vector["out/slerp"], 2e-4)


def check_edm_teacher(vector: GoldenVector) -> None:
    config, model, labels = vector.config, denoiser_of(vector.config, vector.state), one_hot(vector)
    schedule = {key: config[key] for key in ("rho", "sigma_min", "sigma_max") if key in config}
    steps = len(vector["out/sigmas"]) - 1
    close(edm_sigmas(steps, **schedule), vector["out/sigmas"], 1e-12)
    for solver in {key.split("/")[0] for key in vector.tensors("out/") if "/" in key}:
        trajectory = edm_sample(model, vector["in/z"], steps, solver, labels, **schedule)
        close(trajectory.states, vector[f"out/{solver}/traj"], 1e-4)
        close(trajectory.predictions, vector[f"out/{solver}/x0"], 1e-4)
        close(trajectory.x, vector[f"out/{solver}/x"], 1e-4)
        assert _levels_apart(to_uint8(trajectory.x), vector[f"out/{solver}/uint8"]) <= 1


def check_noise_state(vector: GoldenVector) -> None:
    noise = vector["out/noise"]
    for record, expected in zip(vector["in/bin"], noise, strict=True):
        found = noise_from_record(bytes(record.tolist()), tuple(expected.shape))
        assert found.dtype == expected.dtype and found.equal(expected)


def _levels_apart(a: Tensor, b: Tensor) -> int:
    return (a.int() - b.int()).abs().max().item()


HANDLERS = {"sampler": check_sampler, "edm_teacher": check_edm_teacher, "noise_state": check_noise_state}
