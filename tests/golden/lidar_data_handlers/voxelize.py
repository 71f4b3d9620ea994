"""Hard and dynamic voxels."""

from golden_vector import GoldenVector

from visionseq.data.voxels import hard_voxels, voxel_indices


def check_voxelize(vector: GoldenVector) -> None:
    points, config = vector["in/points"].numpy(), vector.config
    grid = config["voxel_size"], config["range"]
    hard = hard_voxels(points, *grid, config["max_points"], config["max_voxels"])
    dynamic = voxel_indices(points, *grid)
    outputs = {
        "voxels": hard.voxels,
        "coords_zyx": hard.coords,
        "num_points": hard.num_points,
        "dynamic_coords_xyz": dynamic.coords,
        "dynamic_valid": dynamic.valid,
    }
    vector.close_all("out/", outputs, tolerance=0)


HANDLERS = {"voxelize": check_voxelize}
