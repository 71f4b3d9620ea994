"""The claim's runs at a tiny size: stages are kept, and an interrupted claim goes on where it stopped."""

import itertools
from dataclasses import replace

import pytest
import torch

from visionseq.claims.rectified_flow.experiment import BINS, DIGITS, ROWS, Measure, run_seed
from visionseq.claims.rectified_flow.factors import run_factors
from visionseq.claims.rectified_flow.report import verdicts, write_report
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


def test_models_with_classes_draw_each_equally_often():
    class Flow:
        sample_shape, label_dim, labels = (1, 8, 8), 4, []

        def no_class(self, labels):
            return None

        def __call__(self, x, t, labels):
            self.labels.append(labels)
            return torch.zeros_like(x)

    flow = Flow()
    Measure(replace(TINY, score_batch=30), seed=0).few_steps(flow)
    one_step = torch.cat(flow.labels[:3])
    assert one_step.bincount().tolist() == [20] * 4
    assert all(labels is not None for labels in flow.labels)


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


def test_a_factor_is_small_alone_and_shares_what_it_can(finished):
    folder, _ = finished
    small = {"network": {"hidden": 8}, "pairs": {"num_pairs": 32}, "updates": {"student_steps": 2}}
    table = run_factors(TINY, 0, folder, small)
    settings = [(run["network"]["hidden"], run["pairs"], run["updates"]) for run in table.values()]
    assert settings == [(16, 64, 4), (8, 64, 4), (16, 32, 4), (16, 64, 2), (8, 32, 2)]
    assert list(table) == ["nothing", "network", "pairs", "updates", "network, pairs, updates"]
    teachers = {path.parent.parent.name for path in folder.glob("small-*/teacher/config.json")}
    assert teachers == {"small-network", "small-network-pairs-updates"}
    students = [run["student"]["1"] for run in table.values()]
    assert len(set(students)) == len(students)


def test_the_page_shows_pairs_and_factors(finished, tmp_path):
    folder, scores = finished
    table = run_factors(TINY, 0, folder, {"updates": {"student_steps": 2}})
    page = write_report(tmp_path, "tiny", {0: scores}, {"num_samples": 80, "features": "f", "pair_steps": 3}, {}, table)
    text = page.read_text()
    assert "Of the teacher's 64 images" in text
    gain = table["updates"]["teacher"]["1"] / table["updates"]["student"]["1"]
    assert "| updates | 16 x 1 | 64 | 2 |" in text
    assert f"| {gain:.1f} |" in text


def test_rows_differ_from_their_neighbour_in_one_thing():
    order = list(ROWS.values())
    for before, after in itertools.pairwise(order):
        changed = {key for key in after if before.get(key, False) != after[key]}
        assert len(changed) == 1, changed
