"""The claim's runs at a tiny size: three arms, two trainings, and a report."""

import json

import pytest

from visionseq.claims.arflow.experiment import Experiment, run_seed
from visionseq.claims.arflow.report import table, verdicts, write_report
from visionseq.errors import ConfigError

NETWORK = {**Experiment().network, "hidden_size": 16, "depth": 1, "patch_size": 4}
TINY = Experiment(network=NETWORK, updates=3, sequences=2, sampler_steps=(3,), copies=1, score_batch=900)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claim")
    return folder, run_seed(TINY, 0, folder)


def test_all_arms_are_scored(finished):
    _, scores = finished
    assert set(scores) == {"carried", "reset", "single", "loss"}
    assert scores["carried"]["3"].keys() == {"features", "pixels", "accuracy"}
    assert scores["carried"]["3"] != scores["reset"]["3"]
    assert all(value > 0 for losses in scores["loss"].values() for value in losses)


def test_a_second_call_trains_nothing(finished):
    folder, scores = finished
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")}
    assert len(before) == 2
    assert run_seed(TINY, 0, folder) == scores
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_recipe_is_not_mixed_in(finished):
    folder, _ = finished
    with pytest.raises(ConfigError, match="another recipe"):
        run_seed(Experiment(network=NETWORK, updates=4), 0, folder)


def test_the_report_has_a_row_for_each_arm_and_a_verdict_for_each_statement(finished, tmp_path):
    scores = {0: finished[1], 1: finished[1]}
    page = write_report(tmp_path, scores, {"features": "features-digits"}, {}).read_text()
    assert len(table(scores)) == 3
    assert all(text in page for text in verdicts(scores))
    assert json.loads((tmp_path / "arflow.json").read_text())["verdicts"] == verdicts(scores)
    assert (tmp_path / "arflow_loss.png").is_file()


def test_a_difference_within_the_spread_does_not_count():
    def seed(carried: float, single: float) -> dict:
        arms = {"carried": carried, "reset": 9.0, "single": single}
        scores = {arm: {"50": {"features": value, "pixels": 1.0, "accuracy": 0.5}} for arm, value in arms.items()}
        return {**scores, "loss": {"with predecessors": [0.1], "alone": [0.2]}}

    statement = "50 steps: ARFlow beats single images at equal cost"
    assert verdicts({0: seed(1.0, 3.0), 1: seed(2.0, 4.0)})[statement]
    assert not verdicts({0: seed(1.0, 2.0), 1: seed(3.0, 4.0)})[statement]
