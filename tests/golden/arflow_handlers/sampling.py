"""Paths, time grids and samplers against vectors of the official implementation."""

import torch
from golden_vector import GoldenVector

from arflow_handlers.models import network_of
from visionseq.arflow.sampling import PATHS, classifier_free, sample, time_grid
from visionseq.flow.sde import diffusion

NORM = 0.7  # of the diffusion coefficients in `paths`


def check_paths(vector: GoldenVector) -> None:
    data, noise, velocity, t = (vector[f"in/{name}"] for name in ("x1", "x0", "velocity", "t"))
    flat = [tensor.flatten(0, 1) for tensor in (data, noise, velocity)]
    for name, path in ((name.lower(), made()) for name, made in PATHS.items()):
        x_t = path.at(flat[0], flat[1], t.flatten())
        values = {
            "xt": x_t,
            "ut": path.velocity(flat[0], flat[1], t.flatten()),
            "score": path.convert(x_t, flat[2], t.flatten(), "velocity", "score"),
        }
        for key, value in values.items():
            vector.close(f"out/{name}/{key}", value.unflatten(0, t.shape), 1e-3 if key == "score" else 1e-5)
        for key in vector.names(f"out/{name}/diffusion_"):
            w = diffusion(key, path, NORM)
            coefficients = torch.tensor([[w(time) for time in row] for row in t.tolist()])
            vector.close(f"out/{name}/diffusion_{key}", coefficients, 1e-5)


def check_sde_times(vector: GoldenVector) -> None:
    for steps, last_step, size in vector.config["items"]:
        grid = torch.tensor(time_grid(steps, size if last_step else 0.0))
        vector.equal(f"out/times_{steps}_{last_step}_{size}", grid)
        vector.equal(f"out/dt_{steps}_{last_step}_{size}", grid[1:2] - grid[:1])


def check_sampler(vector: GoldenVector) -> None:
    config, model, noises, calls = vector.config, network_of(vector), iter(vector["in/noise"]), []
    model.register_forward_hook(lambda module, inputs, output: calls.append((inputs[1][0, 0], output[1])))
    rule = None
    if config["cfg_scale"] is not None:
        rule = classifier_free(config["cfg_scale"], None if config.get("cfg_channels") == "all" else 3)
    trajectory = sample(
        model,
        vector["in/z"],
        lambda x: next(noises),
        config["num_steps"],
        vector["in/y"],
        rule,
        config["diffusion_form"],
        config["diffusion_norm"],
        None if config["last_step"] is None else config["last_step"].lower(),
        config["last_step_size"],
    )
    states = trajectory.states[1:]
    if config["last_step"] is None:  # the official list repeats the end
        states = torch.cat([states, states[-1:]])
    vector.close("out/x", trajectory.x, 2e-4)
    vector.close("out/trajectory", states, 2e-4)
    vector.equal("out/times_called", torch.stack([t for t, _ in calls]))
    assert len(calls) == int(vector.meta["network_calls"])
    for layer, memory in enumerate(calls[-1][1]):
        vector.close(f"out/final_state_block_{layer}", memory, 2e-4)
    if "in/noise_null_half" in vector:  # of rows that are dropped at the end
        assert vector["in/noise_null_half"].shape == vector["in/noise"].shape


HANDLERS = {"paths": check_paths, "sde_times": check_sde_times, "sampler": check_sampler}
