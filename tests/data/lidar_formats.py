"""Readers of point clouds and of lidar data sets, with a healthy file for each, and a bomb for each format.

A bomb is a small file that claims to be, or unpacks to, something that no memory holds.
"""

import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from file_formats import Format
from point_file_writers import write_feather, write_las, write_pcd, write_ply

sys.path.insert(0, str(Path(__file__).parent / "lidar"))  # the two below

from small_sets import KINDS, make_kitti, make_nuscenes
from waymo_messages import calibration, field, frame, laser, masked_crc, pose, recording, records

from visionseq.data.lidar import CustomFrames, Kitti, NuScenes, Once, Waymo, argoverse2, waymo
from visionseq.data.lidar.database import GroundTruthDatabase, build_database
from visionseq.data.lidar.nuscenes_index import INDEX
from visionseq.data.lidar.waymo_records import read_frames
from visionseq.data.point_files import read_points

COLUMNS = ("x", "y", "z", "intensity")
HUGE = 1 << 40
CACHES = (argoverse2.read_annotations, waymo.read_segment, waymo.read_origins)
TABLES = ("scene", "sample", "sample_data", "sample_annotation", "ego_pose")


def read_all(open_set: Callable[[str], object], depth: int, path: Path) -> None:
    """Read all frames of the set whose root is `depth` folders above a file."""
    for cached in CACHES:
        cached.cache_clear()
    frames = open_set(str(path.parents[depth]))
    for index in range(len(frames)):
        frames.frame(index)


def read_database(path: Path) -> None:
    database = GroundTruthDatabase(path.parent)
    for number in range(len(database)):
        database.points_of(number)


def point_format(name: str, write: Callable, *arguments, noticed: float = 0.05) -> Format:
    def make(folder: Path) -> Path:
        write(folder / name, np.random.default_rng(0).normal(0, 20, (40, 4)).astype(np.float32), *arguments)
        return folder / name

    return Format(make, read_points, noticed=noticed)


def set_format(kind: str, file: str, open_set: Callable[[str], object], noticed: float = 0.05) -> Format:
    """A file of a data set of two frames, read through the whole set."""
    make = KINDS[kind][0]
    return Format(lambda folder: make(folder) / file, partial(read_all, open_set, file.count("/")), 30, 300, noticed)


def make_database(folder: Path, file: str) -> Path:
    build_database(kitti(make_kitti(folder / "set")), folder / "database")
    return folder / "database" / file


def write_bin(path: Path, points: np.ndarray) -> None:
    points.astype("<f4").tofile(path)


def kitti(root: str | Path) -> Kitti:
    return Kitti(str(root), "train", fov_points_only=False)


def own(root: str) -> CustomFrames:
    return CustomFrames(root, ["Car", "Pedestrian", "Cyclist"], "train")


def nuscenes(root: str) -> NuScenes:
    return NuScenes(root, "v1.0-mini", sweeps=2)


FORMATS = {
    "bin": point_format("a.bin", write_bin, noticed=0.0),
    "npy": point_format("a.npy", np.save),
    "ascii pcd": point_format("a.pcd", write_pcd, COLUMNS, "ascii"),
    "binary pcd": point_format("a.pcd", write_pcd, COLUMNS, "binary"),
    "compressed pcd": point_format("a.pcd", write_pcd, COLUMNS, "binary_compressed"),
    "ascii ply": point_format("a.ply", write_ply, COLUMNS, "ascii"),
    "binary ply": point_format("a.ply", write_ply, COLUMNS, "binary_big_endian"),
    "las": point_format("a.las", write_las),
    "laz": point_format("a.laz", write_las),
    "feather": point_format("a.feather", write_feather, COLUMNS),
    "kitti points": set_format("kitti", "training/velodyne/000000.bin", kitti, noticed=0.0),
    "kitti label": set_format("kitti", "training/label_2/000000.txt", kitti),
    "kitti calibration": set_format("kitti", "training/calib/000000.txt", kitti),
    "kitti plane": set_format("kitti", "training/planes/000000.txt", kitti),
    "kitti picture": set_format("kitti", "training/image_2/000000.png", kitti),
    "list of frames": set_format("kitti", "ImageSets/train.txt", kitti),
    "own label": set_format("custom", "labels/000000.txt", own),
    "once": set_format("once", "data/000076/000076.json", Once),
    **{f"nuscenes {name}": set_format("nuscenes", f"v1.0-mini/{name}.json", nuscenes) for name in TABLES},
    "nuscenes index": Format(
        lambda folder: nuscenes(str(make_nuscenes(folder))).root / "v1.0-mini" / INDEX,
        partial(read_all, nuscenes, 1),
        30,
        300,
        noticed=0.0,  # a damaged index is made again
    ),
    "argoverse annotations": set_format(
        "argoverse2", "log/annotations.feather", lambda root: argoverse2.Argoverse2(root, "")
    ),
    "waymo points": set_format("waymo", "segment-1/0000.npy", Waymo),
    "waymo labels": set_format("waymo", "segment-1/labels.npz", Waymo),
    "waymo frames": set_format("waymo", "segment-1/frames.npz", Waymo),
    "waymo recording": Format(
        lambda folder: recording(folder / "a.tfrecord"), lambda path: list(read_frames(path)), many=300, noticed=0.9
    ),
    "database description": Format(partial(make_database, file="database.json"), read_database, 30, 300),
    "database objects": Format(partial(make_database, file="objects.npz"), read_database, 30, 300),
    "database points": Format(partial(make_database, file="points.npy"), read_database, 30, 300, noticed=0.01),
}


def bomb(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def changed(make: Callable[[Path], Path], change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """A healthy file with another content."""

    def make_changed(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make_changed


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def packed_npz(names: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """Arrays of a hundred million zeros each, deflated to a thousandth."""

    def change(_: bytes) -> bytes:
        import io

        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in names:
                archive.writestr(f"{name}.npy", npy_header((100_000_000,), "|i1") + bytes(100_000_000))
        return file.getvalue()

    return change


def claimed_npz(_: bytes) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("boxes", "names", "starts", "counts", "difficulty"):
            archive.writestr(f"{name}.npy", npy_header((HUGE,), "<i8"))
    return file.getvalue()


PCD = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS {points}\nDATA {data}\n"
PLY = "ply\nformat {order} 1.0\nelement vertex {points}\n" + "".join(f"property float {n}\n" for n in "xyz")
WORD = b"1" * (1 << 20)


def lzf_bomb(points: int) -> bytes:
    """A byte, and references to it that stand for 264 bytes each."""
    size = 12 * points
    packed = b"\x00\x00" + b"\xe0\xff\x00" * (size // 264 + 1)
    header = PCD.format(points=points, data="binary_compressed").encode()
    return header + struct.pack("<II", len(packed), size) + packed


def las_claiming(points: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        return content[:107] + struct.pack("<I", points) + content[111:]

    return change


def feather_bomb(folder: Path) -> Path:
    """320 MB of zeros in a few kilobytes."""
    import pyarrow

    zeros = pyarrow.record_batch([np.zeros(1 << 20, np.float32)] * 4, names=list(COLUMNS))
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_file(folder / "a.feather", zeros.schema, options=options) as writer:
        for _ in range(20):
            writer.write_batch(zeros)
    return folder / "a.feather"


def many_fields(size: int) -> bytes:
    """An image of a recording that unpacks to `size` bytes with a field in every two of them."""
    image = field(1, 2) + field(2, field(2, zlib.compress(b"\x08\x01" * (size // 2))))
    return records([frame([image], [calibration(2, pose(0.0))], [], 0, np.eye(4))])


def claimed_record(length: int) -> bytes:
    header = struct.pack("<Q", length)
    return header + struct.pack("<I", masked_crc(header)) + b"data"


def many_lidars() -> bytes:
    image = laser(2, np.ones((64, 2000, 4), np.float32))
    return records([frame([image] * 100, [calibration(2, pose(0.0))], [], 0, np.eye(4))])


def with_token(content: bytes) -> bytes:
    """A row whose token is a megabyte long: numpy pads every token to the longest."""
    rows = json.loads(content)
    return json.dumps([*rows, {**rows[0], "token": "a" * (1 << 20)}]).encode()


def long_name(content: bytes) -> bytes:
    """A thousand labels, one of them with a name of a megabyte."""
    line = content.split(b"\n")[0]
    name, *rest = line.split()
    if not rest[-1].replace(b".", b"").isdigit() and b"." not in rest[-1]:  # the name is last
        return line + b"\n" + (line + b"\n") * 1000 + b" ".join([name, *rest[:-1], b"a" * (1 << 20)]) + b"\n"
    return (line + b"\n") * 1000 + b" ".join([b"a" * (1 << 20), *rest]) + b"\n"


def grown(_: bytes) -> bytes:
    return b"1 " * (1 << 24)


def nested(_: bytes) -> bytes:
    return b'{"frames": ' + b"[" * 1_000_000


BOMBS = {
    "npy": (bomb("a.npy", npy_header((HUGE, 4), "<f4")), read_points),
    "ascii pcd": (bomb("a.pcd", PCD.format(points=2, data="ascii").encode() + b"1 2 3\n4 5 " + WORD * 2), read_points),
    "binary pcd": (bomb("a.pcd", PCD.format(points=10**11 - 1, data="binary").encode() + bytes(999)), read_points),
    "compressed pcd": (bomb("a.pcd", lzf_bomb(30_000_000)), read_points),
    "ascii ply": (
        bomb("a.ply", (PLY.format(order="ascii", points=2) + "end_header\n").encode() + b"1 2 3\n4 5 " + WORD * 2),
        read_points,
    ),
    "binary ply": (
        bomb("a.ply", (PLY.format(order="binary_little_endian", points=10**11 - 1) + "end_header\n").encode()),
        read_points,
    ),
    "las": (changed(FORMATS["las"].make, las_claiming(1 << 31)), read_points),
    "laz": (changed(FORMATS["laz"].make, las_claiming(1 << 31)), read_points),
    "laz below the limit": (changed(FORMATS["laz"].make, las_claiming(3_000_000)), read_points),
    "feather": (feather_bomb, read_points),
    "kitti label": (changed(FORMATS["kitti label"].make, long_name), FORMATS["kitti label"].read),
    "large kitti label": (changed(FORMATS["kitti label"].make, grown), FORMATS["kitti label"].read),
    "own label": (changed(FORMATS["own label"].make, long_name), FORMATS["own label"].read),
    "kitti calibration": (changed(FORMATS["kitti calibration"].make, grown), FORMATS["kitti calibration"].read),
    "list of frames": (changed(FORMATS["list of frames"].make, grown), FORMATS["list of frames"].read),
    "once": (changed(FORMATS["once"].make, nested), FORMATS["once"].read),
    "nuscenes": (changed(FORMATS["nuscenes sample"].make, with_token), FORMATS["nuscenes sample"].read),
    "waymo points": (
        changed(FORMATS["waymo points"].make, lambda _: npy_header((HUGE, 6), "<f4")), FORMATS["waymo points"].read
    ),
    "waymo labels": (
        changed(FORMATS["waymo labels"].make, packed_npz(("frame", "boxes", "names", "num_points", "difficulty"))),
        FORMATS["waymo labels"].read,
    ),
    "waymo images": (bomb("a.tfrecord", many_fields(60_000_000)), lambda path: list(read_frames(path))),
    "waymo fields": (bomb("a.tfrecord", many_fields(8_000_000)), lambda path: list(read_frames(path))),
    "waymo records": (bomb("a.tfrecord", claimed_record(1 << 62)), lambda path: list(read_frames(path))),
    "waymo lidars": (bomb("a.tfrecord", many_lidars()), lambda path: list(read_frames(path))),
    "database objects": (changed(FORMATS["database objects"].make, claimed_npz), read_database),
    "database points": (
        changed(FORMATS["database points"].make, lambda _: npy_header((HUGE, 4), "<f4")), read_database
    ),
}  # fmt: skip
