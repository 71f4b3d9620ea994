"""Where the time of a LION detector goes, stage by stage, and its parts against naive forms and named peers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def sections(config: str | None = None, input: Path | None = None) -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name; `config` is an official configuration's name, `input` a point file."""
    from visionseq.benchmarks.lion import measure

    return {
        "stages": partial(measure.stages, config, input),
        "scaling": measure.scaling,
        "sparse_conv": measure.sparse_conv,
        "geometry": measure.geometry,
        "voxels": measure.voxels,
        "evaluation": measure.evaluation,
    }
