"""ODE and SDE runs against vectors of the official implementation: all states, and the number of network calls."""

from typing import Any

import torch
from golden_vector import GoldenVector, first_number
from sit_handlers.network import model_of
from torch import Tensor

from visionseq.flow.guidance import ClassifierFree
from visionseq.sit.sampling import sample

ODE_SOLVERS = {"euler": "euler", "heun2": "heun", "midpoint": "midpoint", "dopri5": "dopri5"}
SDE_SOLVERS = {"Euler": "euler-maruyama", "Heun": "stochastic-heun"}


class Watched:
    """A model that keeps the times of its calls."""

    def __init__(self, model):
        self.model, self.path, self.prediction, self.no_class = model, model.path, model.prediction, model.no_class
        self.times: list[float] = []

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        self.times.append(t[0].item())
        return self.model(x, t, labels)


def check_sampler(vector: GoldenVector) -> None:
    for name, run in vector.config["runs"].items():
        model = Watched(model_of(vector, path=run["path"], prediction=run["prediction"]))
        states = _ode(model, run, vector) if run["kind"] == "ode" else _sde(model, run, vector)
        if "evaluations" in run:
            assert len(model.times) == run["evaluations"], name
        if "t_min" in run:  # within float32, in which a model sees its times
            assert min(model.times) >= run["t_min"] - 1e-7, name
            assert max(model.times) <= run["t_max"] + 1e-7, name
        _compare(f"out/{name}", states, vector, run.get("tolerance", first_number(vector.tolerance, 2e-4)))


def _ode(model: Watched, run: dict[str, Any], vector: GoldenVector) -> Tensor:
    tolerances = {name: run[name] for name in ("atol", "rtol") if name in run}
    steps, solver = run["points"] - 1, ODE_SOLVERS[run["method"]]
    return sample(model, vector["in/z"], steps, solver, vector["in/y"], _rule(run), **tolerances).states


def _sde(model: Watched, run: dict[str, Any], vector: GoldenVector) -> Tensor:
    last = run["last_step"]
    noises = iter(vector["in/noise"])
    states = sample(
        model,
        vector["in/z"],
        run["num_steps"] if last else run["num_steps"] - 1,
        SDE_SOLVERS[run["method"]],
        vector["in/y"],
        _rule(run),
        diffusion_form=run["diffusion_form"],
        diffusion_norm=run["diffusion_norm"],
        last_step=last.lower() if last else None,
        last_step_size=run["last_step_size"],
        noise=lambda x: next(noises),
    ).states[1:]
    return states if last else torch.cat([states, states[-1:]])  # as the official code returns it


def _rule(run: dict[str, Any]) -> ClassifierFree | None:
    if "cfg_scale" not in run:
        return None
    return ClassifierFree(scale=run["cfg_scale"], channels=None if run["cfg_channels"] == "all" else 3)


def _compare(key: str, states: Tensor, vector: GoldenVector, tolerance: float) -> None:
    """Each state within the tolerance of its own largest magnitude."""
    expected = vector.expected(key)
    assert states.shape == expected.shape, key
    for number, (actual, state) in enumerate(zip(states, expected, strict=True)):
        bound = tolerance * max(1.0, state.abs().max().item())
        error = (actual - state).abs().max().item()
        assert error <= bound, f"{key}, state {number}: off by {error:.2e}, allowed {bound:.2e}"


HANDLERS = {"sampler": check_sampler}
