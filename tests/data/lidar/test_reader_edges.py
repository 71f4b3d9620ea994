"""What readers do with odd data: no picture, points that are not finite, other columns, sets without labels."""

import logging
from pathlib import Path

import numpy as np
import pytest
from small_sets import WORLD, make_argoverse2, make_custom, make_kitti, make_nuscenes, make_waymo

from visionseq.data.lidar import Argoverse2, CustomFrames, Kitti, Once, Waymo, write_kitti
from visionseq.data.lidar.database import GroundTruthDatabase
from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.infos import Column, read_infos, write_infos
from visionseq.data.lidar.json_tables import table_rows
from visionseq.data.lidar.opening import open_frames
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import Calibration

LABEL = "Car 0.00 0 0.00 100.00 100.00 200.00 200.00 1.50 1.60 4.00 0.00 1.70 10.00 0.00"


class Given:
    """A data set of given frames."""

    class_names = ("Car",)

    def __init__(self, frames: list[LidarFrame], features: tuple[str, ...]):
        self.frames, self.features = frames, features
        self.frame_ids = [frame.frame_id for frame in frames]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> LidarFrame:
        return self.frames[index]

    labels = frame


def test_the_camera_sees_what_is_ahead_and_unreadable_points_stay_to_be_counted(tmp_path):
    frames = Kitti(str(make_kitti(tmp_path)), "train")
    path = frames.folder / "velodyne" / f"{WORLD.frame_ids[0]}.bin"
    points = np.array([[10, 0, 0, 1], [-10, 0, 0, 2], [10, 50, 0, 3], [np.nan, 0, 0, 4], [np.inf, 0, 0, 5]], "<f4")
    points.tofile(path)
    assert frames.frame(0).points[:, 3].tolist() == [1, 4, 5]
    np.zeros((0, 4), "<f4").tofile(path)
    assert frames.frame(0).points.shape == (0, 4)


def test_without_a_picture_all_points_stay_and_one_line_says_so(tmp_path, caplog):
    frames = Kitti(str(make_kitti(tmp_path)), "train")
    for path in (frames.folder / "image_2").iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING):
        for index in range(2):
            assert len(frames.frame(index).points) == len(WORLD.frame(index).points)
    assert caplog.text.count("no pictures") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Plane\nWidth 4\nHeight 1\n0 0 -2 3\n", "line 4"),
        ("# Plane\nWidth 4\nHeight 1\n0 -1 nan 3\n", "line 4"),
        ("0 -1 0 1.7\n", "1 lines"),
    ],
)
def test_planes_that_are_none_are_named(text, expected, tmp_path):
    frames = Kitti(str(make_kitti(tmp_path)), "train")
    path = frames.folder / "planes" / f"{WORLD.frame_ids[1]}.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=expected) as caught:
        frames.labels(1)
    assert str(path) in str(caught.value)
    path.unlink()
    assert frames.labels(1).road_plane is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LABEL.replace("4.00", "four"), "expected numbers"),
        (LABEL.replace("10.00", "1e39"), "expected finite numbers"),
        (LABEL + " 0.5 1", "17 fields"),
    ],
)
def test_labels_that_do_not_fit_name_the_line(line, expected, tmp_path):
    frames = Kitti(str(make_kitti(tmp_path)), "train")
    path = frames.folder / "label_2" / f"{WORLD.frame_ids[0]}.txt"
    path.write_text(f"{LABEL}\n\n{line}\n")
    with pytest.raises(DataError, match=f"line 3: .*{expected}") as caught:
        frames.labels(0)
    assert str(path) in str(caught.value)


def test_what_nobody_cares_about_is_no_object_but_an_annotation(tmp_path):
    frames = Kitti(str(make_kitti(tmp_path)), "train")
    nobody = "DontCare -1 -1 -10 1.00 2.00 3.00 4.00 -1 -1 -1 -1000 -1000 -1000 -10"
    (frames.folder / "label_2" / f"{WORLD.frame_ids[0]}.txt").write_text(f"{nobody}\n{LABEL} 0.25\n")
    frame = frames.labels(0)
    assert frame.names.tolist() == ["Car"]
    np.testing.assert_allclose(frame.boxes[0], [10, 0, -0.95, 4, 1.6, 1.5, -np.pi / 2], atol=1e-6)
    assert frame.difficulty.tolist() == [0]
    assert frame.annotations["name"].tolist() == ["DontCare", "Car"]
    assert frame.annotations["score"].tolist() == [-1, 0.25]
    assert frame.annotations["dimensions"][1].tolist() == [4, 1.5, 1.6]


def test_any_set_becomes_kitti(tmp_path):
    """Without intensity, with a calibration of its own, with one frame that has no labels."""
    own = Calibration(
        P2=np.eye(3, 4) * 500, R0=np.eye(3), V2C=np.array([[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, 0]])
    )
    box, names = np.array([[10, 1, -1, 4, 2, 1.5, -1.0]], np.float32), np.array(["Car"])
    points = np.arange(8, dtype=np.float32).reshape(2, 4)
    frames = [LidarFrame("a", points, box, names, calibration=own), LidarFrame("b", points)]
    write_kitti(Given(frames, ("x", "y", "z", "ring")), tmp_path, "val")
    again = Kitti(str(tmp_path), "val", fov_points_only=False, missing_labels="report")
    assert again.frame_ids == ["a", "b"]
    first, second = again.frame(0), again.frame(1)
    assert first.points.tolist() == [[0, 1, 2, 0], [4, 5, 6, 0]]
    np.testing.assert_array_equal(first.calibration.V2C, own.V2C)
    np.testing.assert_allclose(first.boxes, box, atol=1e-2)
    assert second.boxes is None
    write_kitti(Given(frames, ("x", "y", "ring", "intensity")), tmp_path, "val")
    assert again.frame(0).points[:, 3].tolist() == [3, 7]


def test_folders_of_ones_own_with_any_number_of_columns(tmp_path):
    root = make_custom(tmp_path)
    for path in (root / "points").iterdir():
        points = np.fromfile(path, "<f4").reshape(-1, 4)[:17]  # 5 columns: the bytes are no whole rows of 4
        np.column_stack([points, points[:, :1]]).astype("<f4").tofile(path)
    frames = open_frames(str(root))
    assert frames.features == ("x", "y", "z", "intensity", "ring")
    np.testing.assert_array_equal(frames.frame(1).points[:, :4], WORLD.frame(1).points[:17])
    chosen = CustomFrames(str(root), ["Car"], features=("x", "y", "z"), columns=5)
    np.testing.assert_array_equal(chosen.frame(1).points, WORLD.frame(1).points[:17, :3])


def test_frames_of_ones_own_are_known_by_their_whole_names(tmp_path):
    root = make_custom(tmp_path)
    for number, name in enumerate(("drive.1.bin", "drive.2.pcd.bin")):
        points = WORLD.frame(number).points
        (np.column_stack([points, points[:, :1]]) if "pcd" in name else points).tofile(root / "points" / name)
        (root / "labels" / f"drive.{number + 1}.txt").touch()
    assert CustomFrames(str(root), ["Car"]).frame_ids == ["000000", "000001", "drive.1", "drive.2"]
    np.save(root / "points" / "drive.1.npy", WORLD.frame(0).points)
    with pytest.raises(DataError, match=r"drive.1.npy: drive.1.bin is a frame of the same name"):
        CustomFrames(str(root), ["Car"])


def test_names_in_labels_that_nobody_stated_are_told_once(tmp_path, caplog):
    root = make_custom(tmp_path)
    for name in WORLD.frame_ids:
        (root / "labels" / f"{name}.txt").write_text(
            "1 2 0 4 2 1 0 Car\n1 9 0 4 2 1 0 car\n" + "5 2 0 4 2 1 0 tram\n" * 2
        )
    frames = CustomFrames(str(root), ["Car"], "train")
    for index in (0, 1, 0):
        assert frames.frame(index).names.tolist() == ["Car", "car", "tram", "tram"]
    path = root / "labels" / f"{WORLD.frame_ids[0]}.txt"
    expected = [
        f"{path}, line {line}: {name!r} is not one of the classes Car" for line, name in ((2, "car"), (3, "tram"))
    ]
    assert [record.getMessage() for record in caplog.records] == [f"{text} (reported once)" for text in expected]
    caplog.clear()
    open_frames(str(root)).frame(0)
    assert not caplog.records


def test_sets_are_found_by_their_root_or_by_a_split(tmp_path):
    make_argoverse2(tmp_path / "av2" / "val")
    make_waymo(tmp_path / "waymo" / "train")
    make_waymo(tmp_path / "waymo" / "val")
    for name, kind in (("av2", Argoverse2), ("av2/val", Argoverse2), ("waymo", Waymo), ("waymo/val", Waymo)):
        frames = open_frames(str(tmp_path / name))
        assert isinstance(frames, kind)
        assert len(frames) == 2
    assert open_frames(str(tmp_path / "waymo"), "val").root.name == "val"
    make_waymo(tmp_path / "waymo" / "night")
    assert open_frames(str(tmp_path / "waymo"), "night").root.name == "night"
    for name in ("av2/val", "waymo/val"):
        assert len(open_frames(str(tmp_path / name), "val")) == 2
        with pytest.raises(ConfigError, match=f"{name}: no split train, the frames of this folder are one split"):
            open_frames(str(tmp_path / name), "train")
    for name, there in (("av2", "val"), ("waymo", "train, val")):
        with pytest.raises(ConfigError, match=f"{name}: no split test, expected one of {there}"):
            open_frames(str(tmp_path / name), "test")


def test_splits_are_taken_wherever_there_are_some(tmp_path):
    make_kitti(tmp_path / "kitti")
    (tmp_path / "kitti" / "ImageSets" / "val.txt").write_text(WORLD.frame_ids[1])
    make_custom(tmp_path / "own")
    make_nuscenes(tmp_path / "nuscenes")
    (tmp_path / "nuscenes" / "train.txt").write_text("scene-0001")
    assert len(open_frames(str(tmp_path / "nuscenes"), "train")) == 2
    for name, there in (
        ("kitti", "train, val"),
        ("kitti/training", "train, val"),
        ("own", "train"),
        ("nuscenes", "train"),
    ):
        with pytest.raises(ConfigError, match=f"{name}: no split test, expected one of {there}"):
            open_frames(str(tmp_path / name), "test")
    assert open_frames(str(tmp_path / "kitti" / "training"), "val").frame_ids == [WORLD.frame_ids[1]]
    with pytest.raises(ConfigError, match="lidar_world: no split train, it has none"):
        open_frames("lidar_world", "train")
    (tmp_path / "nuscenes" / "train.txt").unlink()
    with pytest.raises(ConfigError, match="nuscenes: no split train, it has none"):
        open_frames(str(tmp_path / "nuscenes"), "train")


def test_an_archive_is_no_folder_of_tables(tmp_path):
    (tmp_path / "v1.0-mini.tgz").write_bytes(b"")
    assert open_frames(str(tmp_path)) is None
    make_nuscenes(tmp_path)
    assert open_frames(str(tmp_path)).version == "v1.0-mini"


@pytest.mark.parametrize(
    ("data_set", "read"),
    [
        ("kitti", Kitti),
        ("kitti", lambda root: Kitti(root, "train")),
        ("waymo", Waymo),
        ("argoverse2", Argoverse2),
        ("once", Once),
    ],
)
def test_a_data_set_that_is_not_there_is_named_with_where_to_get_it(data_set, read, tmp_path):
    root = tmp_path / "none"
    with pytest.raises(ConfigError, match=f"^{root}.* is not there; see datasets/{data_set}/README.md$"):
        read(str(root))


def test_a_file_that_is_missing_is_named_once(tmp_path):
    make_kitti(tmp_path)
    path = tmp_path / "ImageSets" / "val.txt"
    with pytest.raises(ConfigError, match=f"^{path} is not there; see datasets/kitti/README.md$"):
        Kitti(str(tmp_path), "val")
    make_custom(tmp_path / "own")
    path = tmp_path / "own" / "ImageSets" / "val.txt"
    with pytest.raises(DataError, match=f"^{path}: not readable as text: No such file or directory$"):
        CustomFrames(str(tmp_path / "own"), ["Car"], "val")
    reads = {"a.json": lambda path: list(table_rows(path)), "a.npz": lambda path: read_infos(path, {})}
    for name, read in reads.items():
        with pytest.raises(DataError, match=f"^{tmp_path / name}: .*[Nn]o such file"):
            read(tmp_path / name)
    for name in ("database.json", "objects.npz"):
        with pytest.raises(DataError, match=f"^{tmp_path / name}: .*[Nn]o such file"):
            GroundTruthDatabase(tmp_path)
        (tmp_path / name).write_text('{"features": []}')


def test_waymo_leaves_out_what_nothing_hit(tmp_path):
    root = make_waymo(tmp_path)
    counts = [Waymo(str(root)).labels(i).num_points for i in range(2)]
    least = int(np.median(np.concatenate(counts)))
    frames = Waymo(str(root), min_points=least)
    for i in range(2):
        assert frames.labels(i).num_points.tolist() == counts[i][counts[i] >= least].tolist()
    assert frames.labels(1).origin["timestamp_micros"] == 8


def test_argoverse_names_a_table_with_missing_numbers(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather

    root = make_argoverse2(tmp_path)
    (root / "log" / "sensors" / "lidar" / "notes.feather").write_bytes(b"")
    frames = Argoverse2(str(root), "")
    assert len(frames) == 2
    path = root / "log" / "annotations.feather"
    table = feather.read_table(path)
    wide = pyarrow.array([None, *table["width_m"].to_pylist()[1:]], pyarrow.float64())
    feather.write_feather(table.set_column(table.column_names.index("width_m"), "width_m", wide), path)
    with pytest.raises(DataError, match="width_m") as caught:
        Argoverse2(str(root), "").labels(0)
    assert str(path) in str(caught.value)


def test_infos_come_back_and_say_what_does_not_fit(tmp_path):
    layout = {"box": Column("object", "f", (7,)), "name": Column("object", "US"), "time": Column("frame", "i")}
    arrays = {"box": np.ones((2, 7)), "name": np.array(["a", "b"]), "time": np.arange(3)}
    path = tmp_path / "deep" / "infos.npz"
    write_infos(path, arrays)
    for name, values in read_infos(path, layout).items():
        np.testing.assert_array_equal(values, arrays[name])
    wrong = {"box": np.ones((2, 6)), "name": np.array(["a"]), "time": np.arange(3) / 2}
    for name, values in wrong.items():
        write_infos(path, {**arrays, name: values})
        with pytest.raises(DataError, match=name) as caught:
            read_infos(path, layout)
        assert str(path) in str(caught.value)
    write_infos(path, {"box": arrays["box"]})
    with pytest.raises(DataError, match=r"infos\.npz"):
        read_infos(path, layout)
    with pytest.raises(DataError, match="missing"):
        read_infos(Path(tmp_path / "missing.npz"), layout)
