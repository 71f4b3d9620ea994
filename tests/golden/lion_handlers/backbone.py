"""Windows, merging, layers, blocks, backbones and the 2D backbones."""

import inspect

import torch
from golden_vector import GoldenVector
from torch import Tensor, nn

from lion_handlers.compare import check_gradients, check_statistics, dtype_of, load, operator_of, sparse_of
from visionseq.lion import operators
from visionseq.lion.backbone import LION3DBackboneOneStride, LION3DBackboneOneStride_Sparse
from visionseq.lion.bev import BaseBEVBackbone, BaseBEVResBackbone
from visionseq.lion.block import LIONBlock
from visionseq.lion.layer import OPERATORS, LIONLayer, Operator, PositionEmbedding
from visionseq.lion.merge import PatchMerging3D
from visionseq.lion.windows import group_places, window_order
from visionseq.nn.sparse import SparseTensor

OPTIONS = (
    "FEATURE_DIM",
    "WINDOW_SHAPE",
    "GROUP_SIZE",
    "DEPTHS",
    "LAYER_DOWN_SCALES",
    "DIFFUSION",
    "DIFF_SCALE",
    "SHIFT",
    "DIRECTION",
)


def windows(vector: GoldenVector) -> None:
    for case in vector.config["cases"]:
        name, shape = case["case"], tuple(case["spatial_shape_zyx"])
        indices = vector[f"in/{name}/indices"].long()
        for direction in "xy":
            order = window_order(indices, shape, tuple(case["window_shape_xyz"]), case["shift"], direction)
            vector.equal(f"out/{name}/{direction}", order)
        groups = group_places(case["voxels_per_sample"], case["group_size"])
        vector.equal(f"out/{name}/flat2win", groups.sources)
        vector.equal(f"out/{name}/win2flat", groups.places)


def merge(vector: GoldenVector) -> None:
    config = vector.config
    layer = PatchMerging3D(config["dim"], config["down_scale_xyz"], config["diffusion"], config["diff_scale"])
    x = sparse_of(vector, config["spatial_shape_zyx"], config["batch_size"])
    load(layer, vector)
    described = layer.describe(x)
    vector.close("out/descriptor", described, 1e-5)
    vector.close("out/response", described.mean(1), 1e-5)
    if "out/selected_rows" in vector:  # compared as a set, through the voxels that they generate
        chosen = vector.expected("out/selected_rows")
        generated = layer.generate(x, described)
        around = _neighbours(x.indices[chosen], x.spatial_shape)
        assert sorted(generated.tolist()) == sorted(around.tolist())
    merged = layer(x)
    _check_sites(vector, merged.tensor)
    vector.equal("out/unq_inv", merged.coarse)
    vector.close("out/features", merged.tensor.features, 1e-5)
    (merged.tensor.features * vector["in/gy"]).sum().backward()
    check_gradients(vector, layer, 1e-4, {"features": x.features})


def layer(vector: GoldenVector) -> None:
    config, dtype = vector.config, dtype_of(vector)
    layer = LIONLayer(
        config["dim"],
        _operator(config),
        config["window_shape"],
        config["group_size"],
        config["shift"],
        direction=config.get("direction", ("x", "y")),
    )
    x = sparse_of(vector, config["spatial_shape_zyx"], len(config["voxels_per_sample"]))
    y = load(layer, vector, dtype).train()(x)
    double = dtype == torch.float64
    vector.close("out/features", y.features, 1e-9 if double else 1e-5)
    (y.features * vector["in/gy"]).sum().backward()
    check_gradients(vector, layer, 1e-7 if double else 1e-4, {"features": x.features})


def block(vector: GoldenVector) -> None:
    config, dtype = vector.config, dtype_of(vector)
    double = dtype == torch.float64
    block = LIONBlock(
        config["dim"],
        _operator(config),
        config["depth"],
        config["down_scales_xyz"],
        config["window_shape"],
        config["group_size"],
        config["shift"],
        direction=config.get("direction", ("x", "y")),
    )
    load(block, vector, dtype).train(config["train"])
    tolerance = 1e-8 if double else 1e-4
    seen = _watch(
        block, {f"{part}{i}": f"{part}.{i}" for part in ("encoder", "decoder") for i in range(config["depth"])}
    )
    x = sparse_of(vector, config["spatial_shape_zyx"], config["batch_size"])
    y = block(x)
    for name in vector.names("out/pos_location"):
        grid = seen[f"encoder{name}"]  # a layer keeps its sites
        vector.close(f"out/pos_location{name}", PositionEmbedding.location(grid), tolerance)
    for name, output in seen.items():
        vector.close(f"out/{name}_features", output.features, tolerance)
        vector.equal(f"out/{name}_indices", output.indices)
    vector.close("out/features", y.features, tolerance)
    vector.equal("out/indices", y.indices)
    (y.features * vector["in/gy"]).sum().backward()
    check_gradients(vector, block, 1e-6 if double else 1e-3, {"features": x.features})
    check_statistics(vector, block, "out/after/", tolerance)


def backbone(vector: GoldenVector) -> None:
    config, dtype = vector.config, dtype_of(vector)
    double = dtype == torch.float64
    section = config["backbone_cfg"]
    sparse = any(name.startswith("linear_bev") for name in vector.state)
    build = operator_of(section["OPERATOR"]["NAME"], section["OPERATOR"].get("CFG") or {})
    options = {name.lower(): section[name] for name in OPTIONS if name in section}
    network = (LION3DBackboneOneStride_Sparse if sparse else LION3DBackboneOneStride)(build=build, **options)
    load(network, vector, dtype).train(config["train"])
    tolerance = 1e-6 if double else 1e-3
    stages = [f"{part}{i}" for i in range(1, 5) for part in ("linear_", "dow")]
    seen = _watch(network, {name: name for name in (*stages, "linear_out", *(["dow_out"] if sparse else []))})
    x = sparse_of(vector, config["grid_size_xyz"][::-1], config["batch_size"])
    y = network(x)
    for name, output in seen.items():
        vector.close(f"out/{name}_features", output.features, tolerance)
        vector.equal(f"out/{name}_indices", output.indices)
    _check_sites(vector, y)
    vector.close("out/features", y.features, tolerance)
    (y.features * vector["in/gy"]).sum().backward()
    check_gradients(vector, network, 1e-5 if double else 1e-2, {"features": x.features})
    check_statistics(vector, network, "out/after/", tolerance)


def bev(vector: GoldenVector) -> None:
    config = vector.config
    kind = BaseBEVResBackbone if "res" in vector.path.stem else BaseBEVBackbone
    names = ("LAYER_NUMS", "LAYER_STRIDES", "NUM_FILTERS", "UPSAMPLE_STRIDES", "NUM_UPSAMPLE_FILTERS")
    network = kind(config["input_channels"], *(config[name] for name in names))
    load(network, vector)
    x = vector["in/x"].clone().requires_grad_()
    vector.close("out/eval", network.eval()(x), 1e-4)
    y = network.train()(x)
    vector.close("out/train", y, 1e-4)
    (y * vector["in/gy"]).sum().backward()
    check_gradients(vector, network, 1e-3, {"x": x})
    check_statistics(vector, network, "out/after_train/", 1e-4)


def _operator(config: dict) -> Operator:
    """The operator that a layer's or block's config names; its options are beside it."""
    if config["operator"] == "Stub":
        return operator_of("Stub", {})
    known = inspect.signature(getattr(operators, OPERATORS[config["operator"]])).parameters
    return operator_of(config["operator"], {name: value for name, value in config.items() if name in known})


def _watch(module: nn.Module, names: dict[str, str]) -> dict[str, SparseTensor]:
    """What the submodules give in the next call: name -> their sparse tensor."""
    seen: dict[str, SparseTensor] = {}
    for name, path in names.items():

        def keep(_: nn.Module, __: tuple, output, name: str = name) -> None:
            seen[name] = getattr(output, "tensor", output)

        module.get_submodule(path).register_forward_hook(keep)
    return seen


def _check_sites(vector: GoldenVector, y: SparseTensor) -> None:
    vector.equal("out/indices", y.indices)
    vector.equal("out/spatial_shape", list(y.spatial_shape))


def _neighbours(sites: Tensor, shape: tuple[int, ...]) -> Tensor:
    around = []
    for dy, dx in ((1, -1), (1, 1), (-1, -1), (-1, 1)):
        moved = sites + torch.tensor([0, 0, dy, dx])
        moved[:, 2].clamp_(0, shape[1] - 1)
        moved[:, 3].clamp_(0, shape[2] - 1)
        around.append(moved)
    return torch.cat(around)


HANDLERS = {
    "window_mapping": windows,
    "merge_": merge,
    "lion_layer": layer,
    "lion_block": block,
    "backbone_": backbone,
    "bev_": bev,
}
