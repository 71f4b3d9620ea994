"""Verdicts and averages of a claim, from scores whose order is known."""

import json

import pytest

from visionseq.claims.rectified_flow.report import average, table, verdicts, write_report


def row(one: float, two: float, five: float, **extra) -> dict:
    return {"distance": {"1": one, "2": two, "5": five}, "straightness": 0.1, **extra}


@pytest.fixture
def scores() -> dict:
    curve = {"loss_against_t": [0.3, 0.1, 0.1, 0.3]}
    return {
        "teacher": row(567, 559, 6.5, heun=14.4, pairs={"images": 10, "distinct": 9, "copies": 0.1}),
        "A": row(584, 208, 28, **curve),
        "B": row(501, 122, 23, **curve),
        "C": row(436, 104, 23, **curve),
        "D": row(504, 112, 22, **curve),
        "E": row(220, 48, 16, **curve),
        "F": row(246, 56, 16, **curve),
    }


def test_every_statement_is_judged(scores):
    found = verdicts(scores)
    assert {text for text, holds in found.items() if not holds} == {
        "one reflow makes 1 step usable: F at least five times below the teacher used directly",
        "F better than E at 1 step",
        "F better than E at 2 steps",
    }
    assert len(found) == 13


def test_each_step_count_is_judged_alone(scores):
    scores["B"]["distance"]["2"] = 90  # below C
    assert not verdicts(scores)["A > B > C at 2 steps"]
    assert verdicts(scores)["A > B > C at 1 step"]


def test_statements_without_their_rows_are_left_out(scores):
    some = {name: scores[name] for name in ("teacher", "A", "C", "F")}
    assert {"C better than A at 1 step", "F better than C at 2 steps"} < verdicts(some).keys()
    assert not any("B" in text or "E" in text for text in verdicts(some))


def test_average_takes_the_mean_of_every_number():
    first, second = {"A": row(1, 2, 3, loss_against_t=[1, 3])}, {"A": row(3, 4, 5, loss_against_t=[2, 5])}
    mean = average([first, second])
    assert mean["A"]["distance"] == {"1": 2, "2": 3, "5": 4}
    assert mean["A"]["loss_against_t"] == [1.5, 4]


def test_report_holds_seeds_verdicts_and_pictures(tmp_path, scores):
    recipe = {"num_samples": 10, "features": "f", "pair_steps": 12}
    page = write_report(tmp_path, "claim", {0: scores, 1: scores}, recipe, {"cpu": "x"})
    content = json.loads((tmp_path / "claim.json").read_text())
    assert content["mean"]["A"]["distance"]["1"] == 584
    assert set(content["seeds"]) == {"0", "1"}
    assert "does not hold here" in page.read_text()
    assert "Heun, 23 evaluations" in page.read_text()
    for picture in ("claim_straightness.png", "claim_loss.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_table_shows_the_teachers_own_sampler_in_a_column_of_its_own(scores):
    rows = {cells[0]: cells[1:] for cells in table(scores)}
    assert rows["teacher (no reflow)"] == ("567.0", "559.0", "6.5", "14.4")
    assert rows["A"][-1] == ""
