"""Names that data files hold never lead out of their data set, whatever reads them."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_sets import make_custom, make_kitti, make_nuscenes, make_once

from visionseq.data.lidar import CustomFrames, Kitti, NuScenes, Once, write_kitti
from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.prepare import unpack
from visionseq.data.names import path_below
from visionseq.errors import ConfigError, DataError

LEAVING = ("../../../secret", "a/../../secret", "/secret", "..", "..\\secret", "C:/secret", "a\0b", "\x1bsecret", "")
UNUSABLE = ("x" * 300, "\ud800")  # no file system takes these


def once(root: Path, name: str) -> None:
    path = make_once(root) / "data" / "000076" / "000076.json"
    value = json.loads(path.read_text())
    value["frames"][0]["frame_id"] = name
    path.write_text(json.dumps(value))
    Once(str(root)).frame(0)


def nuscenes(root: Path, name: str) -> None:
    path = make_nuscenes(root) / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    rows[0]["filename"] = f"samples/LIDAR_TOP/{name}" if name in UNUSABLE else f"{name}/LIDAR_TOP/../{name}"
    path.write_text(json.dumps(rows))
    NuScenes(str(root), "v1.0-mini").frame(0)


def kitti(root: Path, name: str) -> None:
    make_kitti(root)
    (root / "ImageSets" / "train.txt").write_bytes(f"{name}\n".encode("utf-8", "surrogatepass"))
    Kitti(str(root), "train").frame(0)


def custom(root: Path, name: str) -> None:
    make_custom(root)
    (root / "ImageSets" / "train.txt").write_bytes(f"{name}\n".encode("utf-8", "surrogatepass"))
    CustomFrames(str(root), (), "train").frame(0)


def writer(root: Path, name: str) -> None:
    class Frames:
        features, frame_ids = ("x", "y", "z"), [name]

        def __len__(self) -> int:
            return 1

        def frame(self, index: int) -> LidarFrame:
            return LidarFrame(name, np.zeros((1, 3), np.float32))

    write_kitti(Frames(), root / "out")


def archive(root: Path, name: str) -> None:
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w") as file:
        file.writestr(f"data/{name}", b"1")
    unpack(root / "a.zip", root / "out", r"data/(.*)$")


HARMLESS = {
    ("unpack", "\ud800"), ("unpack", "a\0b"), ("custom", ""), ("kitti", ""), ("write_kitti", ""), ("write_kitti", "..")
}  # fmt: skip
USERS = {"once": once, "nuscenes": nuscenes, "kitti": kitti, "custom": custom, "write_kitti": writer, "unpack": archive}


@pytest.mark.parametrize("name", [*LEAVING, *UNUSABLE], ids=lambda name: repr(name)[:20])
@pytest.mark.parametrize("user", USERS)
def test_a_name_that_leaves_is_refused(user, name, tmp_path):
    """`../../..` in a frame of ONCE read, and in an archive wrote, outside of the root."""
    if (user, name) in HARMLESS:
        pytest.skip("the file's format cannot hold this name, or makes a harmless one of it")
    root = tmp_path / "deep" / "below" / "set"
    root.parent.mkdir(parents=True)
    with pytest.raises((DataError, ConfigError)) as caught:
        USERS[user](root, name)
    assert "\x1b" not in str(caught.value)
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(root) for path in written)


def test_links_of_the_owner_are_followed(tmp_path):
    """Data sets lie on several disks; a name still cannot climb out through a link."""
    make_once(tmp_path / "disk")
    (tmp_path / "set" / "data").mkdir(parents=True)
    os.symlink(tmp_path / "disk" / "data" / "000076", tmp_path / "set" / "data" / "000076")
    assert len(Once(str(tmp_path / "set")).frame(0).points)
    root = tmp_path / "set" / "data"
    assert path_below(root, "000076/lidar_roof/0.bin", "here").is_file()
    with pytest.raises(DataError, match=f"^here: the name .*expected a file below {root}"):
        path_below(root, "000076/../../secret", "here")
