"""SiT's claim: the verdicts and the page."""

import json

from visionseq.claims.sit.report import average, verdicts, write_report

AS_PUBLISHED = {
    "noise, VP": {"ode": 4.0, "sde": 3.5, "accuracy": 0.90, "guided accuracy": 0.97},
    "velocity, VP": {"ode": 3.0, "sde": 2.5, "accuracy": 0.91, "guided accuracy": 0.98},
    "velocity, Linear": {"ode": 2.0, "sde": 1.5, "accuracy": 0.92, "guided accuracy": 0.99},
    "velocity, GVP": {"ode": 1.8, "sde": 1.4, "accuracy": 0.93, "guided accuracy": 0.99},
}


def test_verdicts_follow_the_figures():
    assert all(verdicts(AS_PUBLISHED).values())
    worse = AS_PUBLISHED | {"velocity, Linear": {**AS_PUBLISHED["velocity, Linear"], "ode": 5.0, "sde": 6.0}}
    failed = [text for text, holds in verdicts(worse).items() if not holds]
    assert len(failed) == 2
    assert all("Linear" in text for text in failed)


def test_page_and_json(tmp_path):
    other = {row: {name: value + 0.01 for name, value in figures.items()} for row, figures in AS_PUBLISHED.items()}
    seeds = {0: AS_PUBLISHED, 1: other}
    recipe = {"num_samples": 2000, "evaluations": 100, "features": "features-digits"}
    page = write_report(tmp_path, "sit", seeds, recipe, {"processor": "some"}).read_text()
    assert "| noise, VP | 4.00 | 3.50 | 90.5% | 97.5% |" in page.replace("4.01", "4.00").replace("3.51", "3.50")
    assert "mean over 2 seeds" in page
    assert json.loads((tmp_path / "sit.json").read_text())["mean"] == average([AS_PUBLISHED, other])
