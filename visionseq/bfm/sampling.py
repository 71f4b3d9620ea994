"""Samplers of BFM: Euler's ODE, Euler-Maruyama, and Euler with approximated features (arXiv 2510.21167).

The steps are planned first: the segment of each, whether it is guided, whether its features are approximated. Each step
calls the network once; a guided one with the rows [conditional; unconditional]. With the FRN, the first step of a
segment leaves its features as the anchor A and the others use A + w R(x_t, t, y). Where any step of a segment is
guided, its first one runs for both halves, so that there is an anchor for each.

The state is float64, the network has the dtype of its weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from visionseq.bfm.schedule import boundaries, ode_times, sde_times
from visionseq.errors import ConfigError
from visionseq.flow.guidance import GuidanceRule, Slope, guided
from visionseq.flow.paths import Path
from visionseq.flow.sde import Noise, diffusion, euler_maruyama, to_drift
from visionseq.flow.solvers import Callback, Trajectory, euler, integrate, with_last

Solver = Literal["euler", "euler-maruyama"]
LastStep = Literal["official", "mean"]


class Network(Protocol):
    """The parts of `BFM` that a sampler calls."""

    segments: int
    path: Path

    @property
    def has_frn(self) -> bool: ...

    def no_class(self, class_labels: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def condition(self, t_B: Tensor, class_labels: Tensor) -> Tensor: ...

    def features(self, x: Tensor, c_BD: Tensor) -> Tensor: ...

    def residual(self, x: Tensor, c_BD: Tensor) -> Tensor: ...

    def velocity(self, x: Tensor, c_BD: Tensor, f_BND: Tensor, segment: int) -> Tensor: ...


@dataclass(frozen=True)
class Call:
    """One call of the network in a sampler's plan.

    Attributes:
        segment: whose velocity blocks it runs.
        t: time of the state.
        guided: guidance acts.
        both: the rows are doubled, for guidance or for an anchor that later steps need.
        frn: features are approximated.
        weight: w, the share of the segment between its start and t.
    """

    segment: int
    t: float
    guided: bool
    both: bool
    frn: bool
    weight: float


@dataclass(frozen=True)
class SegmentTrajectory(Trajectory):
    """A trajectory and the calls of the network that made it, from which `visionseq.bfm.flops` counts."""

    calls: tuple[Call, ...] = ()


def plan(
    segments: int,
    steps: int,
    solver: Solver = "euler",
    frn: bool = False,
    rule: GuidanceRule | None = None,
    last_step: LastStep = "official",
) -> list[Call]:
    """The calls of a sampler with n `steps` in each segment: K n, and one more for the official end of the SDE."""
    _check(solver, frn, last_step, steps)
    sigma = boundaries(segments).tolist()
    times = (ode_times if solver == "euler" else sde_times)(segments, steps)[:, :-1].tolist()
    calls: list[Call] = []
    for k, row in enumerate(times):
        acts = [rule is not None and rule.active(t) for t in row]
        for j, t in enumerate(row):
            both = acts[j] or (frn and j == 0 and any(acts))
            weight = (sigma[k] - t) / (sigma[k] - sigma[k + 1])
            calls.append(Call(k, t, acts[j], both, frn and j > 0, weight))
    return [*calls, calls[-1]] if solver == "euler-maruyama" and last_step == "official" else calls


@torch.no_grad()
def sample(
    model: Network,
    z: Tensor,
    class_labels: Tensor,
    steps: int = 8,
    solver: Solver = "euler",
    frn: bool = False,
    rule: GuidanceRule | None = None,
    last_step: LastStep = "official",
    noise: Noise | None = None,
    callback: Callback | None = None,
    record: bool = True,
) -> SegmentTrajectory:
    """From noise at t = 1 to data at t = 0.

    Args:
        model: the network.
        z: unit noise [B, C, S, S].
        class_labels: int64 [B].
        steps: n, in each segment.
        solver: `euler` for the ODE, `euler-maruyama` for the SDE, whose diffusion is 2 t and which needs two steps in
            a segment.
        frn: approximate the features after the first step of a segment; there is no such SDE.
        rule: guidance; None: none.
        last_step: of the SDE. `official` takes the step from 0.04 to 0 with its noise, and then once more from 0.04
            to 0 without; `mean` takes it once, without noise.
        noise: of the SDE, a function of the state.
        callback: called after each step with (step, time reached, state).
        record: keep the states.

    Returns:
        A trajectory with float64 states.

    Raises `ConfigError` for choices that do not exist or do not go together.
    """
    if frn and not model.has_frn:
        raise ConfigError("frn: the model has no FRN, expected one of the second stage")
    calls = plan(model.segments, steps, solver, frn, rule, last_step)
    network = PlannedNetwork(model, calls)
    null = None if rule is None else model.no_class(class_labels)
    x, grid = z.double(), [*(call.t for call in calls[: model.segments * steps]), 0.0]
    field = guided(network, class_labels, null, rule, joint=True, unconditional_at=network.needs_both, grid=grid)
    if solver == "euler":
        return _with_calls(integrate(euler, field, x, grid, callback, record), calls)

    if noise is None:
        raise ConfigError("noise is missing, which the SDE adds in each step")
    w = diffusion("sigma", model.path)
    drift = Slope(field, to_drift(model.path, "velocity", w))
    step = euler_maruyama(w, noise)
    if last_step == "mean":
        return _with_calls(integrate(with_last(step, euler, 0.0), drift, x, grid, callback, record), calls)
    loop = integrate(step, drift, x, grid, callback, record)
    return _with_calls(loop, calls, integrate(euler, drift, loop.x, grid[-2:], callback=None, record=record))


class PlannedNetwork:
    """Velocities of a model by the plan of a sampler: call number i of the network is call number i of the plan."""

    def __init__(self, model: Network, calls: list[Call]):
        self.model, self.calls = model, calls
        self.number = 0
        self.anchor_BND: Tensor | None = None
        self.dtype = next(model.parameters()).dtype

    def needs_both(self, t: float) -> bool:
        """Whether the next call has the unconditional rows as well."""
        return self.calls[self.number].both

    def __call__(self, x: Tensor, t_B: Tensor, class_labels: Tensor) -> Tensor:
        call = self.calls[self.number]
        self.number += 1
        x_t = x.to(self.dtype)
        c_BD = self.model.condition(t_B, class_labels)
        return self.model.velocity(x_t, c_BD, self._features(call, x_t, c_BD), call.segment).to(x.dtype)

    def _features(self, call: Call, x_t: Tensor, c_BD: Tensor) -> Tensor:
        if not call.frn:
            self.anchor_BND = self.model.features(x_t, c_BD)
            return self.anchor_BND
        assert self.anchor_BND is not None  # the plan begins each segment without the FRN
        return self.anchor_BND[: len(x_t)] + call.weight * self.model.residual(x_t, c_BD)


def _with_calls(first: Trajectory, calls: list[Call], last: Trajectory | None = None) -> SegmentTrajectory:
    """The trajectory with its calls; `last` follows the first one."""
    t, states = first.t, first.states
    if last is not None:
        t = torch.cat([t, last.t[1:]])
        if states is not None and last.states is not None:
            states = torch.cat([states, last.states[1:]])
    end: Any = first if last is None else last
    return SegmentTrajectory(end.x, t, states, None, end.nfe, tuple(calls))


def _check(solver: str, frn: bool, last_step: str, steps: int) -> None:
    if solver not in ("euler", "euler-maruyama"):
        raise ConfigError(f"solver {solver!r}, expected euler or euler-maruyama")
    if last_step not in ("official", "mean"):
        raise ConfigError(f"last_step {last_step!r}, expected official or mean")
    if solver == "euler-maruyama" and frn:
        raise ConfigError("frn: there is no SDE with approximated features, expected solver euler")
    if solver == "euler-maruyama" and steps < 2:
        raise ConfigError(f"{steps} step in a segment of the SDE, expected at least 2")
