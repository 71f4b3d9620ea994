"""Claims: each room's headline result at a size that a CPU can carry, reported as it comes out.

Each folder is a claim, named after its room or part. It offers `DATA`, the names of the data sets that it can run on,
the usual one first, and `run(data, out, work, seeds, progress) -> Outcome`, where `progress` takes a line of text.
"""

from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """The result of a claim's runs."""

    verdicts: dict[str, bool]  # statement -> whether it holds
    page: Path
    table: list[tuple[str, ...]]
