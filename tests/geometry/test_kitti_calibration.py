"""KITTI calibration: projections by hand, round trips, files in any order, damaged files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionseq.errors import DataError
from visionseq.geometry import Calibration

P2 = np.array([[700, 0, 600, 45], [0, 700, 180, 0.2], [0, 0, 1, 0.003]], np.float32)
R0 = np.array([[0.9999, 0.0098, -0.0074], [-0.0099, 0.9999, -0.0043], [0.0074, 0.0044, 0.9999]], np.float32)
V2C = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.07], [1, 0, 0, -0.27]], np.float32)
PLAIN = Calibration(np.array([[700, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]]), np.eye(3), V2C * [1, 1, 1, 0])
KEYS = {"P2": P2, "R0_rect": R0, "Tr_velo_to_cam": V2C}

coordinates = st.floats(-80, 80, width=32)


def text_of(matrices: dict[str, np.ndarray]) -> str:
    return "".join(f"{key}: {' '.join(map(repr, value.ravel().tolist()))}\n" for key, value in matrices.items()) + "\n"


def write(folder, text: str):
    path = folder / "000000.txt"
    path.write_text(text)
    return path


def test_a_point_by_hand():
    lidar, rect = np.array([[10, -1, -2, 0.5]], np.float32), np.array([[1, 2, 10]], np.float32)
    assert np.allclose(PLAIN.lidar_to_rect(lidar), rect)
    assert np.allclose(PLAIN.rect_to_lidar(rect), lidar[:, :3])
    pixels, depth = PLAIN.lidar_to_image(lidar)
    assert np.allclose(pixels, [[670, 320]])
    assert depth == 10
    assert np.allclose(PLAIN.image_to_rect(pixels, depth), rect)


@given(st.tuples(coordinates, coordinates, coordinates))
def test_there_and_back(point):
    calibration, points = Calibration(P2, R0, V2C), np.array([point], np.float32)
    assert np.allclose(calibration.rect_to_lidar(calibration.lidar_to_rect(points)), points, atol=1e-4)


@given(st.tuples(st.floats(2, 80, width=32), coordinates, coordinates))
def test_pixels_lead_back_to_the_point(point):
    calibration = Calibration(P2, R0, V2C)
    rect = calibration.lidar_to_rect(np.array([point], np.float32))
    if rect[0, 2] > 0.5:
        back = calibration.image_to_rect(*calibration.rect_to_image(rect))
        assert np.allclose(back, rect, atol=1e-3)


def test_the_view_is_half_open_and_ahead():
    at_pixel = [[0, 0], [-1, 0], [0, 179], [1199, 359], [1200, 0], [0, 360]]
    rect = PLAIN.image_to_rect(np.array(at_pixel, np.float32) + 0.25, np.full(6, 7, np.float32))
    lidar = PLAIN.rect_to_lidar(np.concatenate([rect, -rect[:1], rect[:1] * 0, rect[:1] * np.nan]))
    expected = [True, False, True, True, False, False, False, False, False]
    assert PLAIN.in_view(lidar, (360, 1200)).tolist() == expected


def test_a_file_in_any_order(tmp_path):
    matrices = {"Tr_velo_to_cam": V2C, "P0": P2 * 2, "R0_rect": R0, "P2": P2}
    calibration = Calibration.from_file(write(tmp_path, text_of(matrices)))
    for name, expected in (("P2", P2), ("R0", R0), ("V2C", V2C)):
        assert np.array_equal(getattr(calibration, name), expected)
        assert getattr(calibration, name).dtype == np.float32


@pytest.mark.parametrize("missing", KEYS)
def test_a_missing_line_is_named(tmp_path, missing):
    path = write(tmp_path, text_of({key: value for key, value in KEYS.items() if key != missing}))
    with pytest.raises(DataError, match=f"000000.txt: the line {missing}"):
        Calibration.from_file(path)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("P2", "1 2 3", "P2 has 3 values, expected 12"),
        ("P2", "1 2 x", "'1 2 x', expected numbers"),
        ("R0_rect", " ".join(["nan"] * 9), "expected finite numbers"),
        ("R0_rect", " ".join(["1e39"] * 9), "expected finite numbers"),
        ("R0_rect", " ".join(["0"] * 9), "no inverse"),
        ("R0_rect", "3e38 3e38 0 3e38 -3e38 0 0 0 3e38", "no inverse"),
        ("R0_rect", "1e-42 0 0 0 1e-42 0 0 0 1e-42", "no inverse"),
    ],
)
def test_unfit_values_are_named(tmp_path, key, values, message):
    text = text_of({name: value for name, value in KEYS.items() if name != key}) + f"{key}: {values}\n"
    with pytest.raises(DataError, match=f"000000.txt[:,] .*{message}"):
        Calibration.from_file(write(tmp_path, text))


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt"):
        Calibration.from_file(tmp_path / "none.txt")
    path = tmp_path / "binary.txt"
    path.write_bytes(b"P2: \xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.txt"):
        Calibration.from_file(path)


@given(st.data())
def test_a_damaged_file_raises_nothing_but_data_errors(tmp_path_factory, data):
    content = bytearray(text_of(KEYS).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("calib") / "000000.txt"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        calibration = Calibration.from_file(path)
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
        assert np.isfinite(calibration.rect_to_lidar(np.zeros((1, 3), np.float32))).all()
    assert message.startswith(str(path))
