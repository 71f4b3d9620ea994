"""Sparse convolutions: spconv's values, the gradients of the dense equivalent."""

from golden_vector import GoldenVector

from lion_handlers.compare import check_gradients, load, sparse_of
from visionseq.nn import sparse


def convolution(vector: GoldenVector) -> None:
    config = vector.config
    options = {name: tuple(config[name]) for name in ("stride", "padding", "dilation")}
    kind = getattr(sparse, config["type"])
    layer = kind(config["in_channels"], config["out_channels"], tuple(config["kernel"]), bias=config["bias"], **options)
    x = sparse_of(vector, config["spatial_shape"], config["batch_size"])
    y = load(layer, vector)(x)
    rows = y.keys().argsort()  # the file's rows are in lexicographic order
    vector.equal("out/indices", y.indices[rows])
    vector.equal("out/spatial_shape", list(y.spatial_shape))
    vector.close("out/features", y.features[rows], 1e-5)
    (y.features[rows] * vector["in/gy"]).sum().backward()
    check_gradients(vector, layer, 1e-5, {"features": x.features})


HANDLERS = {"subm_conv": convolution, "sparse_conv": convolution}
