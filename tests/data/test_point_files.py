"""Point files: each format gives back what was written, in all its variants, and says what is wrong with a bad one."""

import struct
from pathlib import Path

import numpy as np
import pytest
from point_file_writers import write_feather, write_las, write_pcd, write_ply

from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.data.point_files import find_point_files, read_points
from visionseq.data.point_files.bin_columns import likely_columns
from visionseq.errors import DataError

POINTS = np.random.default_rng(0).normal(0, 20, (57, 4)).astype(np.float32)
NAMES = ("x", "y", "z", "intensity")


def assert_points(path: Path, atol: float = 0.0) -> None:
    cloud = read_points(path)
    assert cloud.values.dtype == np.float32
    assert cloud.columns[:3] == ("x", "y", "z")
    np.testing.assert_allclose(cloud.select(NAMES, "here"), POINTS, rtol=0, atol=atol)


@pytest.mark.parametrize("columns", [3, 4, 5, 6])
def test_raw_floats_and_arrays(tmp_path, columns):
    values = np.random.default_rng(1).normal(size=(11, columns)).astype(np.float32)
    values.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", values.astype(np.float64))
    for cloud in (read_points(tmp_path / "a.bin", columns), read_points(tmp_path / "a.npy")):
        np.testing.assert_array_equal(cloud.values, values)
        assert len(cloud.columns) == columns


@pytest.mark.parametrize("columns", [3, 4, 5, 6])
@pytest.mark.parametrize("intensity", ["0..1", "0..255", "nothing"])
@pytest.mark.parametrize("order", ["as scanned", "shuffled"])
def test_the_number_of_columns_is_seen_from_the_values(columns, intensity, order, tmp_path):
    """A size of 5 columns divides by 16 for every fourth number of points, and was then read as 4 columns."""
    scan = LidarWorld(1, seed=2, sensor=LidarSensor(beams=24, columns=360)).frame(0).points[:7200]
    scale = {"0..1": 1.0, "0..255": 255.0, "nothing": 0.0}[intensity]
    more = [scan[:, 3] * scale, np.arange(len(scan)) % 24, np.full(len(scan), -1)]
    points = np.column_stack([scan[:, :3], *more])[:, :columns]
    points = np.random.default_rng(0).permutation(points) if order == "shuffled" else points
    path = tmp_path / "a.bin"
    points[: len(points) // 60 * 60].astype("<f4").tofile(path)  # a size that fits 3, 4, 5 and 6 columns
    assert likely_columns(path)[0] == columns
    if columns == 4:
        assert read_points(path).columns == NAMES
    else:
        with pytest.raises(
            DataError, match=f"^{path}: the size matches 4 and {columns} columns.*--columns {columns} reads"
        ):
            read_points(path)
    assert read_points(path, columns).values.shape[1] == columns
    assert len(read_points(path, 4).values)  # by choice, whatever the values look like


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("x y z scalar_Intensity", "x y z intensity"),
        ("x y z Intensity", "x y z intensity"),
        ("i x y z", "x y z intensity"),
        ("X Y Z reflectance", "x y z intensity"),
        ("x y z reflectivity intensity", "x y z reflectivity intensity"),
        ("x y z remission scalar_intensity", "x y z remission intensity"),
        ("x y z laser_id", "x y z ring"),
        ("x y z time", "x y z time"),
    ],
)
@pytest.mark.parametrize("ending", ["pcd", "ply", "feather"])
def test_columns_have_their_usual_names(names, expected, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    points = np.column_stack([POINTS, POINTS[:, :1]])[:, : len(names.split())]
    writers = {
        "pcd": lambda: write_pcd(path, points, tuple(names.split()), "binary"),
        "ply": lambda: write_ply(path, points, tuple(names.split()), "ascii"),
        "feather": lambda: write_feather(path, points, tuple(names.split())),
    }
    writers[ending]()
    cloud = read_points(path)
    assert cloud.columns == tuple(expected.split())
    place = names.split().index("i") if "i" in names.split() else len(names.split()) - 1
    np.testing.assert_array_equal(cloud.values[:, -1], points[:, place])


NEWLINE, ROWS = b"\n", "1 2 3 4\n5 6 7 8\n9 10 11 12\n"


@pytest.mark.parametrize("ending", ["pcd", "ply"])
@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        (ROWS.replace("5 6 7 8", "5 6 7 8 0"), 1, "5 values, expected 4"),
        (ROWS.replace("5 6 7 8", "5 6 7"), 1, "3 values, expected 4"),
        (ROWS.replace("5 6 7 8", "5 6\n7 8"), 1, "2 values, expected 4"),
        (ROWS.replace("4\n5", "4\n\n \t\n5").replace("11", "eleven"), 4, "expected 4 numbers"),
        (ROWS.replace("7", "1_0"), 1, "expected 4 numbers"),
        (ROWS.replace("7", "7" * (1 << 20)), 1, "bytes or more"),
        (ROWS.replace("9 10 11 12\n", " " * 30), None, "2 rows, expected 3"),
    ],
)
def test_rows_are_rows(ending, rows, line, message, tmp_path):
    """A surplus value in one row shifted all later points, silently."""
    path = tmp_path / f"a.{ending}"
    write = write_pcd if ending == "pcd" else write_ply
    write(path, POINTS[:3], NAMES, "ascii")
    header = path.read_bytes()[: path.read_bytes().index(b"ascii\n" if ending == "pcd" else b"end_header\n")]
    header += b"ascii\n" if ending == "pcd" else b"end_header\n"
    path.write_bytes(header + ROWS.encode())
    assert read_points(path).values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    path.write_bytes(header + rows.encode())
    where = "" if line is None else f", line {header.count(NEWLINE) + 1 + line}"
    with pytest.raises(DataError, match=f"^{path}{where}: .*{message}"):
        read_points(path)


def test_a_row_too_many_is_named(tmp_path):
    write_pcd(tmp_path / "a.pcd", POINTS[:3], NAMES, "ascii")
    with open(tmp_path / "a.pcd", "a") as file:
        file.write("\n1 2 3 4\n")
    with pytest.raises(DataError, match=r"line 15: '1 2 3 4': a row beyond the 3 POINTS of the header"):
        read_points(tmp_path / "a.pcd")


def test_nuscenes_files_have_five_columns(tmp_path):
    np.arange(20, dtype=np.float32).tofile(tmp_path / "sweep.pcd.bin")
    assert read_points(tmp_path / "sweep.pcd.bin").values.shape == (4, 5)


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_pcd(tmp_path, data, kind):
    write_pcd(tmp_path / "a.pcd", POINTS, NAMES, data, kind)
    assert_points(tmp_path / "a.pcd")


def test_pcd_skips_padding_and_columns_of_several_values(tmp_path):
    header = "VERSION 0.7\nFIELDS x y z _ normal ring\nSIZE 4 4 4 1 4 2\nTYPE F F F U F U\nCOUNT 1 1 1 3 3 1\n"
    row = struct.pack("<fff3B3fH", 1, 2, 3, 0, 0, 0, 9, 9, 9, 7)
    content = f"{header}WIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA binary\n".encode() + 2 * row
    (tmp_path / "a.pcd").write_bytes(content)
    cloud = read_points(tmp_path / "a.pcd")
    assert cloud.columns == ("x", "y", "z", "ring")
    assert cloud.values.tolist() == [[1, 2, 3, 7]] * 2


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply(tmp_path, order):
    write_ply(tmp_path / "a.ply", POINTS, NAMES, order)
    assert_points(tmp_path / "a.ply")


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_las(tmp_path, ending):
    pytest.importorskip("laspy")
    write_las(tmp_path / f"a.{ending}", POINTS)
    cloud = read_points(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(cloud.values[:, :3], POINTS[:, :3], atol=6e-4)
    assert "intensity" in cloud.columns
    assert cloud.origin == (0, 0, 0)


def test_las_on_a_map_is_given_from_an_origin(tmp_path):
    pytest.importorskip("laspy")
    shift = np.array([453_000.0, 5_412_000.0, 300.0])
    write_las(tmp_path / "a.las", POINTS, shift)
    cloud = read_points(tmp_path / "a.las")
    np.testing.assert_allclose(cloud.values[:, :3] + (np.array(cloud.origin) - shift), POINTS[:, :3], atol=1e-3)


def test_feather(tmp_path):
    pytest.importorskip("pyarrow")
    write_feather(tmp_path / "a.feather", POINTS, NAMES)
    assert_points(tmp_path / "a.feather")


@pytest.mark.parametrize("name", ["a.bin", "a.npy", "a.pcd", "a.ply"])
def test_no_points_are_no_error(tmp_path, name):
    none = POINTS[:0]
    writers = {
        "a.bin": lambda path: none.tofile(path),
        "a.npy": lambda path: np.save(path, none),
        "a.pcd": lambda path: write_pcd(path, none, NAMES, "binary"),
        "a.ply": lambda path: write_ply(path, none, NAMES, "ascii"),
    }
    writers[name](tmp_path / name)
    assert read_points(tmp_path / name).values.shape == (0, 4)


def test_what_is_wrong_is_said(tmp_path):
    def fails(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name) as error:
            read_points(tmp_path / name)
        return str(error.value)

    assert "the size matches 5 columns" in fails("a.bin", bytes(20))
    assert "not a numpy array" in fails("a.npy", b"not numpy")
    assert "DATA" in fails("a.pcd", b"FIELDS x y z\n")
    assert "no PLY header" in fails("a.ply", b"ply\nformat ascii 1.0\n")
    assert "no column z, found x, y" in fails(
        "b.pcd", b"FIELDS x y\nSIZE 4 4\nTYPE F F\nCOUNT 1 1\nPOINTS 0\nDATA binary\n"
    )
    assert "too few for 1000000 rows of 3" in fails(
        "c.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1000000\nDATA ascii\n1 2 3\n"
    )
    assert "ends in .bin" in fails("a.xyz", b"1 2 3")
    with pytest.raises(DataError, match=r"nothing\.bin: not readable"):
        read_points(tmp_path / "nothing.bin")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy"):
        read_points(tmp_path / "objects.npy")


def test_names_stand_for_files(tmp_path):
    for name in ("b.bin", "a.pcd", "note.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_point_files(tmp_path)] == ["a.pcd", "b.bin"]
    assert find_point_files(tmp_path / "b.bin") == [tmp_path / "b.bin"]
    assert [path.name for path in find_point_files(tmp_path / "*.pcd")] == ["a.pcd"]
    with pytest.raises(DataError, match="no point files"):
        find_point_files(tmp_path / "*.laz")
