"""Point clouds from files: raw floats, numpy arrays, PCD, PLY, LAS and LAZ, Feather."""

from visionseq.data.point_files.cloud import PointCloud
from visionseq.data.point_files.reading import EXTENSIONS, find_point_files, read_points

__all__ = ["EXTENSIONS", "PointCloud", "find_point_files", "read_points"]
