"""Paths and predictions by name, and the times at which they may be asked (arXiv 2401.08740, appendix).

Where sigma or alpha vanish, a score or a velocity made of another prediction does not exist, so samplers and training
keep away from these ends. Clock: t = 0 is noise, t = 1 is data.
"""

from typing import Literal

from visionseq.errors import ConfigError
from visionseq.flow.paths import GVP, VP, Linear, Path

PathName = Literal["Linear", "GVP", "VP"]
Prediction = Literal["velocity", "score", "noise"]
Interval = tuple[float, float]

PATHS: dict[str, type[Path]] = {"Linear": Linear, "GVP": GVP, "VP": VP}
PREDICTIONS = ("velocity", "score", "noise")
MARGIN = 1e-3
MARGIN_OF_VP_TRAINING = 1e-5


def path_of(path: str, prediction: str = "velocity") -> Path:
    """The path of a name, in this room's clock; `ConfigError` for an unknown path or prediction."""
    if path not in PATHS:
        raise ConfigError(f"path {path!r}, expected one of {', '.join(PATHS)}")
    if prediction not in PREDICTIONS:
        raise ConfigError(f"prediction {prediction!r}, expected one of {', '.join(PREDICTIONS)}")
    return PATHS[path](data_at=1)


def training_interval(path: Path, prediction: Prediction) -> Interval:
    """First and last time of a training example."""
    if isinstance(path, VP):
        return 0.0, 1 - MARGIN_OF_VP_TRAINING
    return _away_from_both_ends(prediction)


def ode_interval(path: Path, prediction: Prediction) -> Interval:
    """First and last time of the ODE."""
    return (0.0, 1 - MARGIN) if isinstance(path, VP) else _away_from_both_ends(prediction)


def sde_interval(path: Path, prediction: Prediction, form: str, last_step_size: float) -> Interval:
    """First and last time of the steps with noise; the last step of size `last_step_size` > 0 goes on from there.

    Without one (size 0) the steps end where those of the ODE do. With the form `SBDM` they do not begin at alpha = 0,
    where its coefficient is infinite.
    """
    start, end = ode_interval(path, prediction)
    if form == "SBDM" and not isinstance(path, VP):
        start = MARGIN
    return start, 1 - last_step_size if last_step_size else end


def _away_from_both_ends(prediction: Prediction) -> Interval:
    return (0.0, 1.0) if prediction == "velocity" else (MARGIN, 1 - MARGIN)
