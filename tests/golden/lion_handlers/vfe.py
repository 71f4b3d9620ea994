"""Voxel feature encoders: which points are kept, what they see, features in both modes of BatchNorm, gradients."""

import torch
from golden_vector import ReadVector, close

from lion_handlers.compare import check_gradients, check_statistics, load
from visionseq.lion.vfe import DynamicPillarVFE, DynamicVoxelVFE


def encoder(vector: ReadVector) -> None:
    config = vector.config
    kind = DynamicPillarVFE if "pillar" in vector.path.stem else DynamicVoxelVFE
    vfe = kind(
        config["num_point_features"],
        config["NUM_FILTERS"],
        config["voxel_size"],
        config["point_cloud_range"],
        config["USE_ABSLOTE_XYZ"],
        config["WITH_DISTANCE"],
    )
    assert vfe.spatial_shape[::-1] == tuple(config["grid_size"])
    load(vfe, vector)
    points, batch_size = vector["in/points"], config["batch_size"]
    kept, voxel_of_point, indices = vfe.group(points)
    assert torch.equal(kept, points[vector["out/point_kept"].bool()])
    assert torch.equal(voxel_of_point, vector["out/point_to_voxel"])
    assert torch.equal(indices, vector["out/voxel_coords"].long())
    close(vfe.decorate(kept, voxel_of_point, indices), vector["out/point_features"], 1e-5)
    close(vfe.eval()(points, batch_size).features, vector["out/voxel_features_eval"], 1e-5)
    features = vfe.train()(points, batch_size).features
    close(features, vector["out/voxel_features_train"], 1e-5)
    (features * vector["in/gy"]).sum().backward()
    check_gradients(vector, vfe, 1e-4, {})
    check_statistics(vector, vfe, "out/after_train/", 1e-5)


HANDLERS = {"vfe_dynamic": encoder}
