"""The sampler of ARFlow (arXiv 2501.16085): the trajectory of an image is the sequence that the network reads.

    v, M <- network(x, t, y, M)
    x    <- x + (v + w score) h + sqrt(2 w h) n               n ~ N(0, I), w the diffusion coefficient

Times rise evenly from 0 to 1 - last_step_size, whatever the number of steps; a last step without noise goes on to the
data. Each call of the network appends one image to the sequence and costs the same: the memories M are all that is
kept. They live in a `CarriedMemory`, made anew for each trajectory, so none can leak into the next.

Legend: B batch.
"""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance import ClassifierFree, GuidanceRule, guided
from visionseq.flow.paths import GVP, VP, Linear, Path
from visionseq.flow.sde import Form, LastStep, Noise, diffusion, euler_maruyama, integrate_sde, to_drift
from visionseq.flow.sde import last_step as step_without_noise
from visionseq.flow.solvers import Callback, Trajectory
from visionseq.nn.precision import at_least_float32

PathName = Literal["Linear", "GVP", "VP"]
PATHS: dict[str, type[Path]] = {"Linear": Linear, "GVP": GVP, "VP": VP}


class SequenceNetwork(Protocol):
    """What a sampler needs of `ARFlow`."""

    path: PathName

    @property
    def null_label(self) -> int: ...

    def __call__(self, x: Tensor, t: Tensor, y: Tensor, memories: Any = None, /) -> tuple[Tensor, Any]: ...


class CarriedMemory:
    """The velocities along one trajectory: (x [B, C, H, W], t [B], labels [B]) -> velocity [B, C, H, W].

    Each call appends an image to the sequence of each row. Rows of guidance without a class have memories of their own.
    """

    def __init__(self, network: SequenceNetwork):
        self.network, self.memories = network, None

    def __call__(self, x_BCHW: Tensor, t_B: Tensor, labels_B: Tensor) -> Tensor:
        velocity, self.memories = self.network(x_BCHW.unsqueeze(1), t_B.unsqueeze(1), labels_B, self.memories)
        return velocity.squeeze(1)


@torch.no_grad()
def sample(
    network: SequenceNetwork,
    z: Tensor,
    added_noise: Noise,
    steps: int = 250,
    class_labels: Tensor | None = None,
    rule: GuidanceRule | None = None,
    diffusion_form: Form = "sigma",
    diffusion_norm: float = 1.0,
    last_step: LastStep | None = "mean",
    last_step_size: float = 0.04,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Images from unit noise by Euler and Maruyama's method.

    Args:
        network: an `ARFlow`.
        z: unit noise [B, C, H, W]; the state has its dtype, at least float32.
        added_noise: unit noise like a state, drawn once in each step.
        steps: times of the grid, at least 2; as many network calls with a last step, one less without.
        class_labels: int64 [B]; None: no class.
        rule: guidance; both predictions of a step are made in one call, also where the rule is not active, because
            both memories must see every image.
        diffusion_form, diffusion_norm: the coefficient w; norm 0 is a deterministic run.
        last_step: mean, euler or tweedie; None: the grid ends at the data.
        last_step_size: the time that is left for the last step.
        callback: called after each step with (step, t reached, state).
        record: keep the states.

    Raises `ConfigError` for values that are not possible.
    """
    if diffusion_form == "SBDM":
        raise ConfigError("diffusion_form SBDM is infinite at t = 0, where a trajectory begins")
    path = PATHS[network.path]()
    w = diffusion(diffusion_form, path, diffusion_norm)
    grid = time_grid(steps, 0.0 if last_step is None else last_step_size)
    last = None if last_step is None else (step_without_noise(last_step, path, "velocity", w), 1.0)

    # The field of this trajectory: its memories are empty.
    labels_B = _labels(network, class_labels, z)
    predict = guided(
        CarriedMemory(network),
        labels_B,
        None if rule is None else torch.full_like(labels_B, network.null_label),
        rule,
        joint=rule is not None,
        unconditional_at=lambda t: True,
        grid=grid if last is None else [*grid, 1.0],
    )
    step, drift = euler_maruyama(w, added_noise), to_drift(path, "velocity", w)
    return integrate_sde(step, predict, at_least_float32(z), grid, drift, last, callback, record)


def time_grid(steps: int, last_step_size: float = 0.04) -> list[float]:
    """Even times in float32 from 0 to 1 - last_step_size; raises `ConfigError` for fewer than two steps."""
    if steps < 2 or not 0 <= last_step_size < 1:
        raise ConfigError(
            f"steps {steps}, last_step_size {last_step_size}: expected at least 2, and a size from 0 to less than 1"
        )
    # torch.linspace, whose second half counts back from the end, with one rounding on every processor.
    end = torch.tensor(1 - last_step_size)
    length, number = (end / (steps - 1)).double(), torch.arange(steps)
    grid = torch.where(number < steps // 2, length * number, end - length * (steps - 1 - number))
    return grid.float().tolist()


def classifier_free(scale: float, channels: int | None) -> ClassifierFree | None:
    """The guidance of published samples: of the first channels alone; None at scale 1."""
    return None if scale == 1.0 else ClassifierFree(scale=scale, channels=channels)


def check_path(name: str) -> None:
    """Raise `ConfigError` for a path that has no name here."""
    if name not in PATHS:
        raise ConfigError(f"path {name!r}, expected one of {', '.join(PATHS)}")


def _labels(network: SequenceNetwork, class_labels: Tensor | None, z: Tensor) -> Tensor:
    """Classes [B] on the device of z."""
    if class_labels is None:
        return torch.full((len(z),), network.null_label, device=z.device)
    if class_labels.shape != z.shape[:1] or class_labels.is_floating_point():
        found = f"{class_labels.dtype} {list(class_labels.shape)}"
        raise ConfigError(f"class_labels: {found}, expected integers [{len(z)}]")
    return class_labels.to(z.device).long()
