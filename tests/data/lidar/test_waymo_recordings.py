"""Waymo's recordings: messages, range images, the layout that is written, damaged files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from waymo_messages import (
    BEAMS,
    COLUMNS,
    RANGE,
    calibration,
    doubles,
    field,
    frame,
    image,
    laser,
    masked_crc,
    matrix,
    pose,
    recording,
    records,
    varint,
)

from visionseq.data.lidar import Waymo, waymo, waymo_writer
from visionseq.data.lidar.checksum import masked_crc32c
from visionseq.data.lidar.opening import open_frames
from visionseq.data.lidar.waymo_records import euler_rotations, read_frames
from visionseq.data.lidar.waymo_writer import write_segment
from visionseq.data.lidar.wire import Message, read_records
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import HULL, count_points

SAMPLES = Path(os.environ.get("VISIONSEQ_LIDAR_SAMPLES") or Path(__file__).parents[4] / "shared" / "data" / "lidar")


def test_checksums_are_those_of_tfrecords():
    crc = 0xE3069283  # of the digits 1 to 9, as the literature has it
    expected = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc(b"123456789") == masked_crc32c(b"123456789") == expected
    data = np.random.default_rng(0).integers(0, 256, 200, dtype=np.uint8).tobytes()
    for length in range(40):  # whole groups of bytes and what remains of one
        assert masked_crc32c(data[length : 5 * length]) == masked_crc(data[length : 5 * length])


def test_a_flipped_bit_anywhere_in_a_record_is_noticed(tmp_path):
    """Points and boxes are doubles and floats: nothing else would notice z 3.0 that became 12.0."""
    path, whole = tmp_path / "a.tfrecord", records([bytes(range(40)), b"", b"three"])
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(DataError, match=f"^{path}, offset "):
            list(read_records(path))


def test_messages_give_their_fields():
    packed = field(6, varint(3) + varint(300))
    message = Message(
        field(1, 7) + field(2, -5) + field(3, "ä") + doubles(4, np.array([1.5, 2])) + packed + field(1, 8), "here"
    )
    assert (message.integer(1), message.integer(2), message.integer(9)) == (8, -5, 0)
    assert (message.text(3), message.text(9), message.data(9)) == ("ä", "", b"")
    assert message.numbers(4).tolist() == [1.5, 2]
    assert message.integers(6, most=2) == [3, 300]
    with pytest.raises(DataError, match="field 6 has more than 1 numbers"):
        message.integers(6, most=1)
    assert Message(field(4, np.array([1.0, 2.0]).tobytes()), "here").numbers(4).tolist() == [1, 2]  # packed
    for wrong in (lambda: message.integer(3), lambda: message.text(1), lambda: Message(b"\x0b", "here")):
        with pytest.raises(DataError, match="here"):
            wrong()


def test_a_range_image_turns_from_the_back_clockwise_and_its_first_row_is_the_highest(tmp_path):
    """Whatever the lidar's own yaw: the columns are those of the vehicle."""
    (tmp_path / "a.tfrecord").write_bytes(
        records([frame([laser(2, image())], [calibration(2, pose(0.7, 1.0, -2.0, 2.0))], [], 5, np.eye(4))])
    )
    (found,) = read_frames(tmp_path / "a.tfrecord")
    assert found.points.dtype == np.float32
    assert found.points.shape == (BEAMS * (COLUMNS - 1), 6)
    points = found.points.reshape(BEAMS, COLUMNS - 1, 6)
    np.testing.assert_allclose(points[..., 3:], image()[:, 1:, 1:], rtol=1e-6)
    away = points[..., :3] - np.float32([1, -2, 2])
    np.testing.assert_allclose(np.linalg.norm(away, axis=-1), RANGE, rtol=1e-5)
    azimuth = np.arctan2(away[..., 1], away[..., 0])
    step = 2 * np.pi / COLUMNS
    np.testing.assert_allclose(azimuth[2], np.pi - step * (np.arange(1, COLUMNS) + 0.5), atol=1e-5)
    inclination = np.arcsin(away[..., 2] / RANGE)[:, 0]
    np.testing.assert_allclose(inclination, (-0.3 + 0.4 * (np.arange(BEAMS) + 0.5) / BEAMS)[::-1], atol=1e-5)


def test_the_pose_of_a_pixel_brings_its_point_to_the_time_of_the_frame(tmp_path):
    """A vehicle that turned and moved between pixel and frame: the point stays where it is in the world."""
    vehicle, then = pose(0.2, 10.0, 5.0, 0.0), pose(-0.1, 9.0, 4.5, 0.2)
    pixel = np.broadcast_to(np.array([0, 0, -0.1, 9.0, 4.5, 0.2], np.float32), (BEAMS, COLUMNS, 6))
    beams = np.linspace(-0.3, 0.1, BEAMS) ** 3
    calibrations = [calibration(1, pose(0.5, 1.0, 0.0, 2.0), beams)]
    messages = [frame([laser(1, image(), image(1), poses)], calibrations, [], 5, vehicle) for poses in (None, pixel)]
    (tmp_path / "a.tfrecord").write_bytes(records(messages))
    still, moving = (recorded.points.astype(np.float64) for recorded in read_frames(tmp_path / "a.tfrecord"))
    assert len(still) == 2 * BEAMS * (COLUMNS - 1)  # both returns
    world = np.column_stack([still[:, :3], np.ones(len(still))]) @ then.T
    np.testing.assert_allclose(moving[:, :3], (world @ np.linalg.inv(vehicle).T)[:, :3], atol=1e-4)
    np.testing.assert_allclose(np.arcsin((still[: COLUMNS - 1, 2] - 2) / RANGE), beams[-1], atol=1e-5)


def test_rotations_are_about_x_then_y_then_z():
    x, y, z = euler_rotations(np.array([[np.pi / 2, 0, 0], [0, np.pi / 2, 0], [0, 0, np.pi / 2]]))
    np.testing.assert_allclose(x @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(y @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(z @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    (together,) = euler_rotations(np.array([[0.3, -0.2, 1.1]]))
    parts = euler_rotations(np.array([[0, 0, 1.1], [0, -0.2, 0], [0.3, 0, 0]]))
    np.testing.assert_allclose(together, parts[0] @ parts[1] @ parts[2], atol=1e-12)


def test_a_segment_is_written_in_the_layout_that_is_read(tmp_path):
    source = recording(tmp_path / "segment-1234_5_with_camera_labels.tfrecord", claimed=None)
    folder = write_segment(source, tmp_path / "waymo" / "train")
    assert folder.name == "segment-1234_5"
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, "waymo"]
    frames = Waymo(str(folder.parent), min_points=1)
    assert frames.frame_ids == ["segment-1234_5_000", "segment-1234_5_001"]
    second = frames.frame(1)
    assert second.names.tolist() == ["Vehicle"] * 3  # neither what nothing hit, nor what is of no type
    assert second.difficulty.tolist() == [1, 1, 1]
    assert second.num_points.tolist() == [30, 30, 30]
    assert (count_points(second.points, second.boxes, HULL) > 20).all()
    np.testing.assert_allclose(second.boxes[0], [11, 0, 1, 6, 6, 6, 0, 2 * np.cos(0.3), -2 * np.sin(0.3)], atol=1e-5)
    assert second.origin["context_name"] == "1234_5"
    assert second.origin["timestamp_micros"] == 1001
    np.testing.assert_allclose(second.origin["pose"], pose(0.3, 101.0, 50.0, 1.0))
    assert len(Waymo(str(folder.parent)).labels(1).boxes) == 4
    source.write_bytes(b"")
    assert write_segment(source, folder.parent) == folder  # what is there stays


def test_the_test_set_has_no_labels(tmp_path):
    source = recording(tmp_path / "segment-1.tfrecord", labelled=False)
    folder = write_segment(source, tmp_path / "test", labelled=False)
    assert Waymo(str(folder.parent), missing_labels="report").frame(0).boxes is None
    empty = write_segment(source, tmp_path / "train")  # a street without any object
    assert Waymo(str(empty.parent)).frame(0).boxes.shape == (0, 9)


def test_points_that_are_not_in_their_boxes_stop_the_conversion(tmp_path):
    source = recording(tmp_path / "segment-1.tfrecord", claimed=5000)
    with pytest.raises(DataError, match=r"segment-1.tfrecord, frame 0: boxes hold .* points instead of \[5000"):
        write_segment(source, tmp_path / "train")
    assert not list((tmp_path / "train").iterdir())


def test_damaged_recordings_are_named(tmp_path):
    source = recording(tmp_path / "segment-1.tfrecord")
    whole = source.read_bytes()
    random, refused = np.random.default_rng(0), 0
    for number in range(200):
        changed = bytearray(whole[: random.integers(len(whole))] if number % 4 == 0 else whole)
        for place in random.integers(0, max(len(changed), 1), 3 if changed else 0):
            changed[place] ^= 1 << int(random.integers(8))
        source.write_bytes(bytes(changed))
        try:
            list(read_frames(source))
        except DataError as error:
            refused += str(source) in str(error) or pytest.fail(str(error))
    assert refused > 100


CUT, UNREADABLE = (field(1, 2) + field(2, field(2, data)) for data in (matrix(image())[:-9], b"no"))


@pytest.mark.parametrize(
    ("lasers", "beams", "where", "expected"),
    [
        ([], None, np.eye(4), "no lidar in it"),
        ([laser(3, image())], None, np.eye(4), "no calibration of lidar 3"),
        ([laser(2, image())] * 2, None, np.eye(4), r"lidars \[2, 2\], expected each of 1 to 5 at most once"),
        ([laser(6, image())], None, np.eye(4), r"lidars \[6\], expected"),
        ([laser(2, image())], np.ones(5), np.eye(4), "5 inclinations for 6 rows"),
        ([laser(2, image()[..., :3])], None, np.eye(4), r"expected \[H, W, 4\]"),
        ([laser(2, image(), poses=np.zeros((3, 4, 6)))], None, np.eye(4), "poses"),
        ([laser(2, image())], None, np.full((4, 4), np.nan), "16 finite"),
        ([UNREADABLE], None, np.eye(4), "a damaged image"),
        ([CUT], None, np.eye(4), "ends early"),
    ],
)
def test_frames_that_do_not_fit_say_why(lasers, beams, where, expected, tmp_path):
    message = frame(lasers, [calibration(2, np.eye(4), beams)], [], 0, where)
    (tmp_path / "a.tfrecord").write_bytes(records([message]))
    with pytest.raises(DataError, match=expected):
        list(read_frames(tmp_path / "a.tfrecord"))


@pytest.mark.skipif(not (SAMPLES / "waymo").is_dir(), reason="no recordings here")
def test_real_labels_have_the_fields_that_are_read():
    """The objects that ship with the metric's tool are made of the same label messages."""
    path = SAMPLES / "waymo" / "metrics" / "fake_ground_truths.bin"
    labels = [entry.message(1) for entry in Message(path.read_bytes(), str(path)).messages(1)]
    assert len(labels) == 1010
    boxes = np.array([[box.number(i) for i in range(1, 8)] for box in (entry.message(1) for entry in labels)])
    of_type = {kind: boxes[[entry.integer(3) == kind for entry in labels]] for kind in (1, 2, 3)}
    means = {kind: rows[:, [4, 3, 5]].mean(0) for kind, rows in of_type.items()}  # length, width, height
    assert (np.abs(means[1] - [4.8, 2.1, 1.8]) < 0.7).all()  # cars
    assert (np.abs(means[2] - [0.9, 0.85, 1.75]) < 0.2).all()  # pedestrians
    assert np.abs(boxes[:, 6]).max() <= 2 * np.pi
    assert {entry.integer(5) for entry in labels} <= {0, 1, 2}
    assert all(entry.integer(7) >= 0 for entry in labels)


@pytest.mark.skipif(not (SAMPLES / "waymo").is_dir(), reason="no recordings here")
def test_real_points_are_read_from_the_prepared_layout(tmp_path):
    points = np.fromfile(SAMPLES / "waymo" / "kitti_format" / "0000000.bin", "<f4").reshape(-1, 6)
    (tmp_path / "segment-1").mkdir()
    np.save(tmp_path / "segment-1" / "0000.npy", points)
    waymo.read_segment.cache_clear()
    frame = Waymo(str(tmp_path), missing_labels="report").frame(0)
    np.testing.assert_array_equal(frame.points, points[:, :5])
    assert frame.boxes is None


def test_a_segment_is_made_inside_its_folder_under_a_name_that_is_skipped(tmp_path, monkeypatch):
    """The folder of a split may be another disk than the one above it, and a conversion may be killed."""
    out, made = tmp_path / "waymo" / "train", []
    replace = os.replace

    def kept(source, target):
        if Path(source).is_dir():
            made.append(Path(source))
        return replace(source, target)

    monkeypatch.setattr(waymo_writer.os, "replace", kept)
    folder = write_segment(recording(tmp_path / "segment-1_with_camera_labels.tfrecord"), out)
    (temporary,) = made
    assert temporary.parent == out
    assert temporary.name.startswith(".")
    assert [path.name for path in out.iterdir()] == ["segment-1"]
    assert len(Waymo(str(out))) == len(list(folder.glob("*.npy")))
    left = out / ".segment-2.left"
    shutil.copytree(folder, left)
    assert len(Waymo(str(out))) == len(list(folder.glob("*.npy")))
    shutil.rmtree(folder)
    assert open_frames(str(out)) is None
    with pytest.raises(ConfigError, match=r"no SEGMENT/0000\.npy"):
        Waymo(str(out))


def test_records_end_where_they_say(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(records([b"one", b"", b"three"]))
    assert list(read_records(path)) == [b"one", b"", b"three"]
    for cut in (5, 14, 17):
        path.write_bytes(records([b"one"])[:cut])
        with pytest.raises(DataError, match="offset 0"):
            list(read_records(path))
    with pytest.raises(DataError, match="missing"):
        list(read_records(tmp_path / "missing.tfrecord"))
