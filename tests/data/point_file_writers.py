"""Small writers of the point formats, for tests."""

from pathlib import Path

import numpy as np


def write_pcd(path: Path, points: np.ndarray, names: tuple[str, ...], data: str, kind: str = "f4") -> None:
    size, count = kind[1], len(names)
    lines = ["# .PCD v0.7", "VERSION 0.7", f"FIELDS {' '.join(names)}", f"SIZE {' '.join([size] * count)}"]
    lines += [f"TYPE {' '.join('F' * count)}", f"COUNT {' '.join('1' * count)}", f"WIDTH {len(points)}", "HEIGHT 1"]
    lines += ["VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {len(points)}", f"DATA {data}\n"]
    if data == "ascii":
        body = "\n".join(" ".join(repr(float(value)) for value in row) for row in points).encode()
    elif data == "binary":
        body = points.astype(f"<{kind}").tobytes()
    else:
        columns = points.astype(f"<{kind}").T.tobytes()
        packed = pack(columns)
        body = np.array([len(packed), len(columns)], "<u4").tobytes() + packed
    path.write_bytes("\n".join(lines).encode() + body)


def pack(data: bytes) -> bytes:
    """LZF with literals and, where a byte comes again at once, a reference of one back."""
    packed, start = bytearray(), 0
    while start < len(data):
        run = 1
        while (
            start
            and run < 200
            and start + run <= len(data)
            and data[start - 1 : start] * run == data[start : start + run]
        ):
            run += 1
        run -= 1
        if run >= 9:  # a long reference: its length less two in three bits, the rest in a byte
            packed += bytes([7 << 5, run - 9, 0])
            start += run
        else:
            literal = data[start : start + 32]
            packed += bytes([len(literal) - 1]) + literal
            start += len(literal)
    return bytes(packed)


def write_ply(path: Path, points: np.ndarray, names: tuple[str, ...], order: str) -> None:
    lines = ["ply", f"format {order} 1.0", "comment by a test", f"element vertex {len(points)}"]
    lines += [f"property float {name}" for name in names]
    lines += ["element face 0", "property list uchar int vertex_indices", "end_header\n"]
    if order == "ascii":
        body = "\n".join(" ".join(repr(float(value)) for value in row) for row in points).encode()
    else:
        body = points.astype("<f4" if order == "binary_little_endian" else ">f4").tobytes()
    path.write_bytes("\n".join(lines).encode() + body)


def write_las(path: Path, points: np.ndarray, shift: np.ndarray | None = None) -> None:
    import laspy

    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = np.full(3, 1e-3), np.zeros(3) if shift is None else shift
    las = laspy.LasData(header)
    las.x, las.y, las.z = (points[:, :3].astype(np.float64) + header.offsets).T
    las.intensity = np.abs(points[:, 3] * 100).astype(np.uint16)
    las.write(path)


def write_feather(path: Path, points: np.ndarray, names: tuple[str, ...]) -> None:
    import pyarrow
    from pyarrow import feather

    table = pyarrow.table({name: points[:, index] for index, name in enumerate(names)} | {"label": ["a"] * len(points)})
    feather.write_feather(table, path)
