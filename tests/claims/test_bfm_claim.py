"""The claim of `bfm` at the size of a test: every stage runs, resumes, and is reported."""

from dataclasses import replace

import pytest

from visionseq.claims.bfm.experiment import DIGITS, run_seed
from visionseq.claims.bfm.report import table, verdicts, write_report
from visionseq.errors import ConfigError

TINY = replace(
    DIGITS,
    hidden_size=16,
    num_heads=2,
    segment_depth=1,
    feature_alignment_depth=1,
    adaln_lora_dim=4,
    projector_hidden=8,
    encoder_widths=(4, 6),
    encoder_steps=2,
    flow_steps=2,
    frn_steps=2,
    batch_size=8,
    num_samples=100,
)


def test_a_seed_runs_and_goes_on(tmp_path):
    scores = run_seed(TINY, 0, tmp_path / "work")
    full, cheap = (scores[row]["steps"]["8"]["flops"] for row in ("BFM + SF", "BFM + SF + RA"))
    assert cheap < full
    for steps, values in scores["one stack"]["equal"].items():
        assert values["flops"] >= scores["BFM"]["steps"][steps]["flops"]
    assert run_seed(TINY, 0, tmp_path / "work") == scores
    with pytest.raises(ConfigError, match="another recipe"):
        run_seed(replace(TINY, flow_steps=3), 0, tmp_path / "work")
    page = write_report(tmp_path, {0: scores}, {"num_samples": 100, "steps": [4, 8, 16], "label_scale": 0.02}, {})
    assert len(verdicts(scores)) == 12
    assert len(table(scores)) == 8
    assert "does not hold here" in page.read_text()


def test_verdicts_follow_the_figures():
    def row(distance: float, flops: float = 10.0, agreement: float = 0.5) -> dict:
        values = {"distance": distance, "flops": flops, "agreement": agreement}
        return {"parameters": 1, "steps": dict.fromkeys(("4", "8", "16"), values)}

    scores = {"BFM": row(3.0), "BFM + SF": row(2.0, agreement=0.6), "BFM + SF + RA": row(2.0, flops=8.0)}
    scores |= {"one stack": row(4.0), "one stack, other labels": row(1.0), "BFM + SF, other labels": row(1.5)}
    for name in ("one stack", "one stack, other labels"):
        scores[name]["equal"] = scores[name]["steps"]
    scores["FRN loss"] = {"first": 0.5, "last": 0.3}
    failed = {text for text, holds in verdicts(scores).items() if not holds}
    assert failed == {text for text in verdicts(scores) if "scale 1" in text or text.startswith("(d)")}
