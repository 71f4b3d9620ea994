"""Pictures of point clouds: places and colours of points and boxes, and the 3D page that needs nothing else."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionseq import viz
from visionseq.errors import DataError
from visionseq.geometry import Calibration
from visionseq.viz import DrawnBoxes
from visionseq.viz.bev import PAPER
from visionseq.viz.boxes import PALETTE, TRUTH

NAMES = ("Car", "Pedestrian")
DETECTED = DrawnBoxes(np.array([[4.0, -3.0, 0, 4, 2, 1.5, 0.5]]), np.array([1]), NAMES, np.array([0.75]))
TRUE = DrawnBoxes(np.array([[-4.0, 3.0, 0, 2, 1, 1.5, 0]]), np.array([0]), NAMES)


def test_from_above_x_goes_right_and_y_goes_up():
    points = np.array([[9.9, 9.9, 1.0, 0], [np.nan, 0, 0, 0], [50.0, 0, 0, 0]], np.float32)
    picture = viz.bev_picture(points, (-10, -10, 10, 10))
    pixels = np.asarray(picture)[: picture.width]
    assert picture.width == 1200
    corner = pixels[:12, -12:].reshape(-1, 3)
    assert (corner != PAPER).any()
    assert (pixels[-12:, :12].reshape(-1, 3) == PAPER).all()


def test_boxes_are_where_they_are():
    pixels = np.asarray(viz.bev_picture(np.zeros((0, 3)), (-10, -10, 10, 10), DETECTED, TRUE))
    row, column = np.nonzero((pixels == PALETTE[1]).all(-1))
    assert abs(column.mean() - 14 * 60) < 60  # (4, -3) in pixels, beside its label
    assert abs(row.mean() - 13 * 60) < 60
    row, column = np.nonzero((pixels == TRUTH).all(-1))
    np.testing.assert_allclose([column.min(), column.max(), row.min(), row.max()], [300, 420, 390, 450], atol=3)


def test_labels_alone_have_the_colours_of_their_classes():
    alone = DrawnBoxes(TRUE.boxes, TRUE.labels, NAMES, by_class=True)
    pixels = np.asarray(viz.bev_picture(np.zeros((0, 3)), (-10, -10, 10, 10), alone))
    assert (pixels == PALETTE[0]).all(-1).any()
    assert not (pixels == TRUTH).all(-1).any()
    assert alone.text(0) == "Car"


@pytest.mark.parametrize("view", [(0, 0, 1), (0, 0, 0, 1), (0, 0, np.inf, 1)])
def test_a_view_that_is_none_is_refused(view):
    with pytest.raises(DataError, match="view"):
        viz.bev_picture(np.zeros((0, 3)), view)


def test_in_the_camera_only_what_lies_in_front_of_it_is_drawn():
    calibration = Calibration(
        P2=np.array([[100.0, 0, 100, 0], [0, 100, 50, 0], [0, 0, 1, 0]]),
        R0=np.eye(3),
        V2C=np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]),
    )
    image = Image.new("RGB", (200, 100))
    ahead = DrawnBoxes(np.array([[10.0, 0, 0, 2, 2, 2, 0]]), np.array([0]), NAMES, np.array([0.5]))
    behind = DrawnBoxes(np.array([[-10.0, 0, 0, 2, 2, 2, 0]]), np.array([0]), NAMES, np.array([0.5]))
    row, column = np.nonzero((np.asarray(viz.camera_picture(image, calibration, ahead)) == PALETTE[0]).all(-1))
    assert abs(column.mean() - 100) < 2
    assert abs(row.mean() - 50) < 2
    assert not np.asarray(viz.camera_picture(image, calibration, behind)).any()


def scene_of(path) -> dict:
    return json.loads(re.search(r"^const scene = (.*);$", path.read_text(), re.M)[1].replace("<\\/", "</"))


def test_the_page_holds_all_points_and_boxes_and_needs_no_network(tmp_path):
    points = np.random.default_rng(0).normal(0, 20, (500, 4)).astype(np.float32)
    points[3, 0] = np.inf
    viz.save_scene(tmp_path / "scene.html", points, DETECTED, TRUE, title="a </script> b")
    text = (tmp_path / "scene.html").read_text()
    assert "http" not in text
    assert text.count("</script>") == 1
    scene = scene_of(tmp_path / "scene.html")
    assert (scene["total"], scene["count"]) == (500, 499)
    steps = np.frombuffer(base64.b64decode(scene["points"]), "<u2").reshape(-1, 3)
    back = np.array(scene["low"]) + steps / 65535 * np.array(scene["span"])
    np.testing.assert_allclose(back, points[np.isfinite(points).all(1), :3], atol=5e-3)
    assert [box["text"] for box in scene["boxes"]] == ["Pedestrian 0.75", "Car"]
    np.testing.assert_allclose(scene["boxes"][0]["corners"], DETECTED.corners[0], atol=1e-3)


def test_the_page_of_an_empty_cloud(tmp_path):
    viz.save_scene(tmp_path / "scene.html", np.zeros((0, 4), np.float32))
    assert scene_of(tmp_path / "scene.html")["count"] == 0


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript engine")
def test_the_page_runs_and_can_be_turned(tmp_path):
    points = np.random.default_rng(0).normal(0, 20, (500, 4)).astype(np.float32)
    viz.save_scene(tmp_path / "scene.html", points, DETECTED, TRUE, title="page")
    command = ["node", str(Path(__file__).with_name("scene_page.js")), str(tmp_path / "scene.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    np.testing.assert_allclose(found["first"]["centre"], [0, 0, 60], atol=1e-6)
    assert found["first"]["above"][1] > 0.05  # z is up
    assert abs(found["first"]["above"][0]) < 1e-6
    assert np.abs(np.subtract(found["moved"], found["first"]["centre"])).max() > 0.05
    np.testing.assert_allclose(found["again"], found["first"]["centre"], atol=1e-6)
    assert found["points"] == 500
    assert found["shown"] == 2 * 14 * 2  # two boxes of twelve edges and a crossed front
    assert found["filtered"] == 14 * 2  # ground truth has no score to fall short
    assert found["draws"] > 10
