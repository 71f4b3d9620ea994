"""Parameters, FLOPs and latency of the token mixers and of the zoo's models, and operators that the count misses."""

from collections.abc import Callable
from typing import Any


def sections() -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name."""
    from visionseq.benchmarks.profile import measure

    return {"mixers": measure.token_mixers, "zoo": measure.zoo_models}
