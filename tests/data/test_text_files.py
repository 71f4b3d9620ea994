"""Text files as people have them, in every reader of text: marks, ends of lines, tabs and blanks change nothing."""

import codecs
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "lidar"))  # small_sets

from small_sets import make_custom, make_kitti, make_nuscenes, make_once

from visionseq.data.lidar import CustomFrames, Kitti, NuScenes, Once
from visionseq.data.lidar.database import GroundTruthDatabase, build_database
from visionseq.data.lidar.nuscenes_index import INDEX
from visionseq.data.names import read_json as read_names
from visionseq.data.pairs.zip_layout import LABELS_FILE
from visionseq.data.pairs.zip_layout import read_labels as read_csv
from visionseq.data.point_files import read_points
from visionseq.errors import DataError
from visionseq.geometry import Calibration
from visionseq.text_files import MAX_TEXT, read_json, read_list, read_rows, read_text

LISTS = "000000\n000001\n"
TRACKING = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
P2: 7e2 0 6e2 0 0 7e2 1.8e2 0 0 0 1 0
R_rect 1 0 0 0 1 0 0 0 1
Tr_velo_cam 0 -1 0 0 0 0 -1 0 1 0 0 0
"""


def kitti(root: Path) -> Kitti:
    return Kitti(str(root), "train", fov_points_only=False)


def facts(frame) -> tuple:
    calibration = frame.calibration
    matrices = () if calibration is None else (calibration.P2.tolist(), calibration.R0.tolist())
    return frame.boxes[:, :7].tolist(), frame.names.tolist(), np.array(frame.road_plane).tolist(), matrices


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def database(folder: Path) -> Path:
    build_database(kitti(make_kitti(folder)), folder / "database")
    return folder / "database" / "database.json"


def nuscenes_table(folder: Path) -> Path:
    return make_nuscenes(folder) / "v1.0-mini" / "category.json"


def read_nuscenes(path: Path) -> tuple:
    (path.parent / INDEX).unlink(missing_ok=True)
    return facts(NuScenes(str(path.parents[1]), "v1.0-mini").labels(0))


# Each reader of text: what makes its file, and what reads it; blanks between words may become tabs unless it is CSV.
READERS = {
    "kitti label": (
        lambda f: make_kitti(f) / "training/label_2/000000.txt",
        lambda p: facts(kitti(p.parents[2]).labels(0)),
    ),
    "kitti calibration": (
        lambda f: make_kitti(f) / "training/calib/000000.txt",
        lambda p: facts(kitti(p.parents[2]).labels(0)),
    ),
    "tracking calibration": (
        lambda f: written(f, "0000.txt", TRACKING),
        lambda p: Calibration.from_file(p).P2.tolist(),
    ),
    "road plane": (
        lambda f: make_kitti(f) / "training/planes/000000.txt",
        lambda p: facts(kitti(p.parents[2]).labels(0)),
    ),
    "list of frames": (lambda f: make_kitti(f) / "ImageSets/train.txt", lambda p: kitti(p.parents[1]).frame_ids),
    "list of one's own": (
        lambda f: make_custom(f) / "ImageSets/train.txt",
        lambda p: CustomFrames(str(p.parents[1]), (), "train").frame_ids,
    ),
    "label of one's own": (
        lambda f: make_custom(f) / "labels/000000.txt",
        lambda p: facts(CustomFrames(str(p.parents[1]), ["Car"]).labels(0)),
    ),
    "list of scenes": (
        lambda f: written(make_nuscenes(f), "train.txt", "scene-0001\n"),
        lambda p: NuScenes(str(p.parent), "v1.0-mini", str(p)).frame_ids,
    ),
    "nuscenes table": (nuscenes_table, read_nuscenes),
    "once": (lambda f: make_once(f) / "data/000076/000076.json", lambda p: facts(Once(str(p.parents[2])).labels(0))),
    "database": (database, lambda p: GroundTruthDatabase(p.parent).features),
    "class names": (lambda f: written(f, "class_names.json", '["cat", "dog"]\n'), lambda p: read_names(p, None)),
    "labels of pairs": (lambda f: written(f, LABELS_FILE, "a.png,3\nb.png,1\n"), lambda p: read_csv(p.parent)),
    "yaml": (lambda f: written(f, "a.yaml", "a: 1\nb: [2, 3]\n"), lambda p: yaml.safe_load(read_text(p))),
    "ascii pcd": (
        lambda f: written(f, "a.pcd", "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6\n"),
        lambda p: read_points(p).values.tolist(),
    ),
    "ascii ply": (
        lambda f: written(
            f,
            "a.ply",
            "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
            "end_header\n1 2 3\n4 5 6\n",
        ),
        lambda p: read_points(p).values.tolist(),
    ),
}
VARIANTS = {
    "byte-order mark": lambda data: codecs.BOM_UTF8 + data,
    "ends of Windows": lambda data: data.replace(b"\n", b"\r\n"),
    "mark and ends of Windows": lambda data: codecs.BOM_UTF8 + data.replace(b"\n", b"\r\n"),
    "trailing blanks": lambda data: data.replace(b"\n", b"  \t\n"),
    "no last end": lambda data: data.rstrip(b"\n"),
    "empty lines at the end": lambda data: data + b"\n \n",
    "tabs": lambda data: data.replace(b" ", b"\t"),
}
EXCEPT = {("labels of pairs", "empty lines at the end"), ("yaml", "tabs"), ("yaml", "trailing blanks")}  # not theirs


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_text_takes_every_variant(name, tmp_path):
    make, read = READERS[name]
    path = make(tmp_path)
    whole = path.read_bytes()
    expected = read(path)
    for variant, change in VARIANTS.items():
        if (name, variant) not in EXCEPT:
            path.write_bytes(change(whole))
            assert read(path) == expected, variant


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_texts_of_old_editors_are_read_by_their_mark(encoding, tmp_path):
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else codecs.BOM_UTF16_BE
    (tmp_path / "a.txt").write_bytes(mark + "Fußgänger 1\r\nb 2\r\n".encode(encoding))
    assert list(read_rows(tmp_path / "a.txt")) == [(1, ["Fußgänger", "1"]), (2, ["b", "2"])]


def test_a_name_may_have_blanks_and_lines_may_end_as_they_like(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"drive 1\rdrive 2  \n\n\tdrive 3")
    assert read_list(tmp_path / "a.txt") == ["drive 1", "drive 2", "drive 3"]


def test_matrices_are_found_with_and_without_colons(tmp_path):
    """The tracking benchmark has R_rect and Tr_velo_cam without any."""
    path = tmp_path / "0000.txt"
    for text in (TRACKING, TRACKING.replace("R_rect ", "R_rect: "), TRACKING.replace("P2: ", "P2 : ")):
        path.write_text(text)
        calibration = Calibration.from_file(path)
        assert calibration.P2[0].tolist() == [700, 0, 600, 0]
        assert calibration.V2C[2].tolist() == [1, 0, 0, 0]
    path.write_text(TRACKING.replace("P2: ", "P2:"))
    assert Calibration.from_file(path).P2[0].tolist() == [700, 0, 600, 0]


@pytest.mark.parametrize("read", [read_text, read_list, read_json, lambda path: list(read_rows(path))])
def test_limits_count_the_bytes_of_the_file(read, tmp_path):
    path = tmp_path / "a.json"
    for content, message in ((b"\xff\xfa", "not readable as text"), (None, "No such file or directory")):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{path}: .*{message}"):
            read(path)
    if read is not read_json:
        with open(path, "wb") as file:
            file.truncate(MAX_TEXT + 1)
        with pytest.raises(DataError, match=f"^{path}: more than {MAX_TEXT} bytes"):
            read(path)


@pytest.mark.parametrize(
    ("name", "message"), [("a\x1b[31mb", r"'a\\x1b\[31mb', expected no control"), ("a" * 256, "256 characters")]
)
def test_names_of_classes_act_on_no_terminal(name, message, tmp_path):
    root = make_custom(tmp_path / "own")
    (root / "labels" / "000000.txt").write_text(f"1 2 3 4 5 6 0 {name}\n")
    with pytest.raises(DataError, match=f"000000.txt: name .*{message}"):
        CustomFrames(str(root), ()).labels(0)
    path = make_once(tmp_path / "once") / "data" / "000076" / "000076.json"
    value = json.loads(path.read_text())
    value["frames"][0]["annos"]["names"][0] = name
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=f"000076.json, frame 0: name .*{message}"):
        Once(str(tmp_path / "once"))


@pytest.mark.parametrize("word", ["1_000", "nan", "1e39", "inf", "1,5", "0x10", "ten"])
def test_numbers_are_decimal_and_finite(word, tmp_path):
    root = make_custom(tmp_path)
    (root / "labels" / "000000.txt").write_text(f"1 2 3 4 {word} 6 0 Car\n")
    with pytest.raises(DataError, match=r"000000.txt, line 1: .*expected (finite )?numbers"):
        CustomFrames(str(root), ["Car"]).labels(0)
