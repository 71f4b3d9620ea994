"""Samplers, inversion and the teacher's ODE against vectors of the official implementation."""

from golden_vector import GoldenVector
from torch import Tensor

from rectified_flow_handlers.models import denoiser_of, one_hot, velocity_of
from visionseq.data.pairs.noise import noise_from_record
from visionseq.pixels import to_uint8
from visionseq.rectified_flow.inversion import invert_from, slerp
from visionseq.rectified_flow.sampling import sample
from visionseq.rectified_flow.teacher import edm_sample, edm_sigmas


def check_sampler(vector: GoldenVector) -> None:
    model, labels = velocity_of(vector.config, vector.state), one_hot(vector)
    for name, run in vector.config["runs"].items():
        solver = run["solver"]
        if "sampler" in run:
            trajectory = sample(
                model, vector["in/z"], run["N"], solver, run["sampler"], run.get("time_schedule"), class_labels=labels
            )
        else:
            trajectory = invert_from(vector["in/inv_start"], model, run["N"], solver, labels)
        values = {
            "traj": trajectory.states,
            "x": trajectory.x,
            "x0hat": trajectory.predictions,
            "zhat": trajectory.predictions,
            "straightness": trajectory.straightness(),
            "straightness_mean": trajectory.straightness().mean(),
        }
        vector.close_all(f"out/{name}/", values, 2e-4)
    if "out/slerp" in vector:
        _check_slerp(vector, *(vector[f"in/slerp_{name}"] for name in "abw"))


def _check_slerp(vector: GoldenVector, a: Tensor, b: Tensor, w: Tensor) -> None:
    if vector["out/slerp"].ndim > a.ndim:  # every weight for every vector
        w = w.reshape(-1, *[1] * (a.ndim - 1))
    vector.close("out/slerp", slerp(a, b, w), 2e-4)


def check_edm_teacher(vector: GoldenVector) -> None:
    config, model, labels = vector.config, denoiser_of(vector.config, vector.state), one_hot(vector)
    schedule = {key: config[key] for key in ("rho", "sigma_min", "sigma_max") if key in config}
    steps = len(vector["out/sigmas"]) - 1
    vector.close("out/sigmas", edm_sigmas(steps, **schedule), 1e-12)
    for solver in {key.split("/")[0] for key in vector.names("out/") if "/" in key}:
        trajectory = edm_sample(model, vector["in/z"], steps, solver, labels, **schedule)
        values = {"traj": trajectory.states, "x": trajectory.x, "x0": trajectory.predictions}
        for key, value in values.items():
            vector.close(f"out/{solver}/{key}", value, 1e-4)
        if (key := f"out/{solver}/uint8") in vector:
            assert _levels_apart(to_uint8(trajectory.x), vector.expected(key)) <= 1


def check_noise_state(vector: GoldenVector) -> None:
    for record, expected in zip(vector["in/bin"], vector.expected("out/noise"), strict=True):
        noise = noise_from_record(bytes(record.tolist()), tuple(expected.shape))
        assert noise.dtype == expected.dtype
        assert noise.equal(expected)


def _levels_apart(a: Tensor, b: Tensor) -> int:
    return (a.int() - b.int()).abs().max().item()


HANDLERS = {"sampler": check_sampler, "edm_teacher": check_edm_teacher, "noise_state": check_noise_state}
