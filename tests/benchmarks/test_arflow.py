"""The sections of the benchmark of `arflow` run and give ratios."""

import pytest

from visionseq.benchmarks.arflow import sections


@pytest.mark.parametrize("section", sorted(sections()))
def test_every_section_runs(section):
    result = sections()[section]("cpu", 1)
    assert any(name.startswith("ratio") and value > 0 for name, value in result.items())
