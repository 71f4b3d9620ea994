"""Voxel feature encoders: which points are kept, what they see, features in both modes of BatchNorm, gradients."""

from golden_vector import GoldenVector

from lion_handlers.compare import check_gradients, check_statistics, load
from visionseq.lion import vfe
from visionseq.lion.vfe import DynamicPillarVFE, DynamicVoxelVFE


def encoder(vector: GoldenVector) -> None:
    config = vector.config
    network = _kind_of(config)(
        config["num_point_features"],
        config["NUM_FILTERS"],
        config["voxel_size"],
        config["point_cloud_range"],
        config.get("USE_ABSLOTE_XYZ", True),
        config.get("WITH_DISTANCE", False),
    )
    assert network.spatial_shape[::-1] == tuple(config["grid_size"])
    load(network, vector)

    # Grouping: points outside have no voxel.
    points, batch_size = vector["in/points"], config["batch_size"]
    kept, voxel_of_point, indices = network.group(points)
    assert kept.equal(points[vector.expected("out/point_kept").bool()])
    vector.equal("out/point_to_voxel", voxel_of_point)
    vector.equal("out/voxel_coords", indices)
    vector.close("out/point_features", network.decorate(kept, voxel_of_point, indices), 1e-5)

    # Features, gradients and running statistics.
    vector.close("out/voxel_features_eval", network.eval()(points, batch_size).features, 1e-5)
    features = network.train()(points, batch_size).features
    vector.close("out/voxel_features_train", features, 1e-5)
    (features * vector["in/gy"]).sum().backward()
    check_gradients(vector, network, 1e-4, {})
    check_statistics(vector, network, "out/after_train/", 1e-5)


def _kind_of(config: dict) -> type[DynamicVoxelVFE]:
    """The encoder that the configuration names; without a name, pillars are as high as the whole range."""
    if name := config.get("NAME"):
        return getattr(vfe, {"DynPillarVFE": "DynamicPillarVFE"}.get(name, name))
    return DynamicPillarVFE if config["grid_size"][2] == 1 else DynamicVoxelVFE


HANDLERS = {"vfe_": encoder}
