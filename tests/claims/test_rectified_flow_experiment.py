"""The claim's runs at a tiny size: stages are kept, and an interrupted claim goes on where it stopped."""

import itertools
from dataclasses import replace

import pytest

from visionseq.claims.rectified_flow.experiment import BINS, DIGITS, ROWS, run_seed
from visionseq.claims.rectified_flow.report import verdicts
from visionseq.errors import ConfigError

TINY = replace(
    DIGITS,
    network={**DIGITS.network, "hidden": 16, "num_blocks": 1},
    teacher_steps=6,
    student_steps=4,
    num_pairs=64,
    pair_steps=3,
    num_samples=80,
    batch_size=16,
    rows=("A", "F"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claim")
    return folder, run_seed(TINY, 0, folder)


def test_scores_of_all_rows(finished):
    _, scores = finished
    assert set(scores) == {"teacher", "A", "F"}
    assert all(value > 0 for row in scores.values() for value in row["distance"].values())
    assert len(scores["A"]["loss_against_t"]) == BINS
    assert "heun" in scores["teacher"]
    assert verdicts(scores)


def test_a_second_call_trains_nothing(finished):
    folder, scores = finished
    models = sorted(folder.glob("*/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    assert run_seed(TINY, 0, folder) == scores
    assert [path.stat().st_mtime_ns for path in models] == before
    assert len(models) == 3


def test_a_missing_row_is_made_up_for_alone(finished):
    folder, scores = finished
    more = run_seed(replace(TINY, rows=("A", "F", "C")), 0, folder)
    assert more["C"]["distance"].keys() == scores["A"]["distance"].keys()
    assert {name: more[name] for name in scores} == scores


def test_another_recipe_is_not_mixed_in(finished):
    folder, _ = finished
    with pytest.raises(ConfigError, match="student_steps 4 instead of 5"):
        run_seed(replace(TINY, student_steps=5), 0, folder)


def test_rows_differ_from_their_neighbour_in_one_thing():
    order = list(ROWS.values())
    for before, after in itertools.pairwise(order):
        changed = {key for key in after if before.get(key, False) != after[key]}
        assert len(changed) == 1, changed
