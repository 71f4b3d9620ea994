"""The benchmark harness: alternation, ratios, the record; and the peers that need no other package."""

import json

import pytest
import torch

from visionseq.benchmarks.harness import Comparison, compare, machine, write_report
from visionseq.benchmarks.rectified_flow import sections
from visionseq.cli import main


def test_alternatives_take_turns():
    calls = []
    timed = compare({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert [len(values) for values in timed.seconds.values()] == [4, 4]


def test_ratio_is_the_median_over_rounds():
    wall = {"ours": [1.0, 10.0, 3.0], "peer": [2.0, 5.0, 3.0]}
    timed = Comparison(wall, {name: [2 * s for s in seconds] for name, seconds in wall.items()})
    assert timed.ratio("ours", "peer") == 1.0
    expected = {"median_s": 3.0, "quartile_1_s": 2.0, "quartile_3_s": 6.5, "median_process_s": 6.0}
    assert timed.summary()["ours"] == expected
    assert Comparison({"ours": [1.5]}, {"ours": [1.0]}).summary()["ours"]["median_s"] == 1.5


def test_report_names_machine_versions_and_commit(tmp_path):
    write_report(tmp_path / "report.json", "rectified_flow", {"section": {"ratio": 0.5}})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"] == {"section": {"ratio": 0.5}}
    assert report["machine"] == json.loads(json.dumps(machine()))
    assert report["machine"]["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert report["machine"]["processor"]
    assert report["machine"]["commit"]


def test_command_writes_what_it_shows(tmp_path, capsys):
    out = tmp_path / "result.json"
    assert main(["benchmark", "rectified_flow", "--sections", "sample_t", "--rounds", "1", "--out", str(out)]) == 0
    ratio = json.loads(out.read_text())["results"]["sample_t"]["ratio_iid_to_antithetic"]
    assert ratio > 0
    assert f"{ratio:.4g}" in capsys.readouterr().out


def test_unknown_section(capsys):
    assert main(["benchmark", "rectified_flow", "--sections", "unets"]) == 1
    assert "sample_t" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("section", sorted(sections().keys() - {"unet"}))
def test_every_section_runs(section):
    assert json.dumps(sections()[section]("cpu", 1))


@pytest.mark.slow
def test_the_diffusers_peer_has_equal_flops():
    pytest.importorskip("diffusers")
    results = sections()["unet"]("cpu", 1)
    assert json.dumps(results)
    for result in results.values():
        assert result["flops"]["UNet2DModel"] == pytest.approx(result["flops"]["SongUNet"], rel=0.02)
