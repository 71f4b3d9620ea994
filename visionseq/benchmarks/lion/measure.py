"""Where the time of a LION detector goes, stage by stage, and its parts against naive forms and named peers."""

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionseq.benchmarks.harness import compare
from visionseq.benchmarks.lion.peers import dictionary_voxels, shapely_iou, vectorised_iou
from visionseq.data.voxels import hard_voxels
from visionseq.errors import DataError
from visionseq.geometry import bev_iou, nms
from visionseq.lion.bev import height_compression
from visionseq.lion.convert import preparation_of
from visionseq.lion.model import LionDetector
from visionseq.lion.presets import preset
from visionseq.metrics import KittiAP
from visionseq.metrics.detection.kitti import camera_annotations
from visionseq.nn.sparse import SparseTensor, SubMConv3d

CONFIG = "second_with_lion_mamba_64dim"
COUNTS = (5_000, 10_000, 20_000, 40_000, 80_000)  # voxels
FRAMES, BOXES = 3769, 50  # of the evaluation: KITTI's validation frames


def stages(config: str | None, file: Path | None, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of each stage of a detector with random weights on one frame, in evaluation mode."""
    torch.manual_seed(0)
    config = config or CONFIG
    detector = LionDetector.from_config(preset(config)).eval().to(device)
    points = _points(detector, file).to(device)
    seconds: dict[str, float] = {}
    with torch.no_grad():
        detector(points, 1)  # compiles
        for name, call in _stage_inputs(detector, points).items():
            timed = compare({name: call}, rounds, warmup=1)
            seconds[name] = timed.summary()[name]["median_s"]
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else _resident_peak()
    return {
        "config": config,
        "points": len(points),
        "voxels": len(detector.vfe(points, 1).features),
        "parameters": sum(p.numel() for p in detector.parameters()),
        "seconds": {**seconds, "all": sum(seconds.values())},
        "peak_bytes": peak,
    }


def scaling(device: str, rounds: int) -> dict[str, Any]:
    """Seconds of the KITTI model's 3D backbone by the number of voxels, and the exponent of a power law (1: linear)."""
    torch.manual_seed(0)
    backbone = LionDetector.from_config(preset(CONFIG)).backbone_3d.eval().to(device)
    seconds = {}
    with torch.no_grad():
        for count in COUNTS:
            x = _scattered(count, 64, (32, 400, 352), device)
            timed = compare({"backbone": partial(backbone, x)}, max(rounds // 3, 1), warmup=1)
            seconds[count] = min(timed.seconds["backbone"])
    exponent = float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])
    return {"seconds": seconds, "exponent": exponent}


def sparse_conv(device: str, rounds: int) -> dict[str, Any]:
    """Forward of a submanifold convolution 3x3x3 of 64 channels on 20,000 sites, against spconv's on the CPU."""
    torch.manual_seed(0)
    x, layer = _scattered(20_000, 64, (32, 400, 352), "cpu"), SubMConv3d(64, 64, 3, bias=False)
    alternatives: dict[str, Callable[[], object]] = {"visionseq": lambda: layer(_without_cache(x))}
    try:
        import spconv.pytorch as spconv

        twin = spconv.SubMConv3d(64, 64, 3, bias=False)
        twin.weight = layer.weight
        indices, shape = x.indices.int(), list(x.spatial_shape)
        make = partial(spconv.SparseConvTensor, x.features, indices, shape, 1)
        alternatives["spconv, CPU"] = lambda: twin(make())
    except ImportError:
        pass
    with torch.no_grad():
        timed = compare(alternatives, rounds)
    return _ratios(timed)


def geometry(device: str, rounds: int) -> dict[str, Any]:
    """An IoU matrix of 500 x 500 boxes, and suppression of 4,096."""
    random = np.random.default_rng(0)
    boxes = torch.from_numpy(_boxes(random, 500, 40.0))
    alternatives: dict[str, Callable[[], object]] = {
        "visionseq": lambda: bev_iou(boxes, boxes),
        "torch, all corners": lambda: vectorised_iou(boxes, boxes),
    }
    try:
        import shapely  # noqa: F401 (raises ImportError without the package)

        alternatives["shapely loop"] = lambda: shapely_iou(boxes.numpy(), boxes.numpy())
    except ImportError:
        pass
    ratios = {"iou_matrix": _ratios(compare(alternatives, rounds))}
    many, scores = torch.from_numpy(_boxes(random, 4096, 70.0)), torch.from_numpy(random.random(4096))
    timed = compare({"nms of 4096 boxes": lambda: nms(many, scores, 0.1)}, rounds)
    return {**ratios, "nms": timed.summary()}


def voxels(device: str, rounds: int) -> dict[str, Any]:
    """Hard voxels of 100,000 points against a dictionary loop."""
    random = np.random.default_rng(0)
    points = random.uniform([-40, -40, -3, 0], [40, 40, 1, 1], (100_000, 4)).astype(np.float32)
    size, limits = (0.2, 0.2, 0.2), (-40, -40, -3, 40, 40, 1)
    alternatives = {
        "visionseq": lambda: hard_voxels(points, size, limits, 5, 40_000),
        "dictionary loop": lambda: dictionary_voxels(points, size, limits, 5, 40_000),
    }
    return _ratios(compare(alternatives, max(rounds // 3, 1), warmup=1))


def evaluation(device: str, rounds: int) -> dict[str, Any]:
    """KITTI's evaluation of 3,769 frames of 50 boxes each."""
    random = np.random.default_rng(0)
    metric = KittiAP()
    for _ in range(FRAMES):
        boxes = _boxes(random, BOXES, 40.0)
        names = random.choice(["Car", "Pedestrian", "Cyclist"], BOXES)
        detections = camera_annotations(boxes + random.normal(0, 0.1, boxes.shape), names, random.random(BOXES))
        metric.update([detections], [camera_annotations(boxes, names)])
    timed = compare({"compute": metric.curves}, 1, warmup=1)
    return {"frames": FRAMES, "boxes": BOXES, **timed.summary()["compute"]}


def _stage_inputs(detector: LionDetector, points: torch.Tensor) -> dict[str, Callable[[], object]]:
    """A call for each stage, on the output of the stage before it."""
    # Voxels, and the parts of the detector.
    calls: dict[str, Callable[[], object]] = {"voxelise and encode": partial(detector.vfe, points, 1)}
    x = detector.vfe(points, 1)
    backbone: Any = detector.backbone_3d
    map_backbone: Any = detector.backbone_2d
    head: Any = detector.dense_head

    # The 3D backbone: four blocks, each with a merge after it.
    for number in range(1, 5):
        block, merge = getattr(backbone, f"linear_{number}"), getattr(backbone, f"dow{number}")
        calls[f"block {number}"] = partial(block, x)
        x = block(x)
        calls[f"merge {number}"] = partial(merge, x)
        x = merge(x).tensor

    # The map and the head.
    calls["output layer"] = partial(backbone.linear_out, x)
    features = backbone.linear_out(x)
    if map_backbone is None:
        features = backbone(detector.vfe(points, 1))
    else:
        sparse = features
        calls["2D backbone"] = lambda: map_backbone(height_compression(sparse))
        features = map_backbone(height_compression(sparse))
    calls["head"] = partial(head, features)
    predictions = head(features)
    calls["decode and suppress"] = partial(head.detections, predictions)
    return calls


def _points(detector: LionDetector, file: Path | None) -> torch.Tensor:
    """[N, 1 + F] of a file, or of a simulated frame; columns that it lacks are zero."""
    from visionseq.data.point_files import read_points
    from visionseq.data.point_files.cloud import PointCloud
    from visionseq.lion.inference import FrameInput

    if file is None:
        from visionseq.data.lidar_world import LidarWorld

        world = LidarWorld(1)
        cloud = PointCloud(world.frame(0).points, world.features)
    else:
        cloud = read_points(file)
    detector.preprocessing = preparation_of(detector).preprocessing
    prepared = FrameInput.of(cloud, detector).prepared
    if not len(prepared):
        raise DataError(f"{file}: no point in the range of the configuration")
    return prepared


def _scattered(count: int, channels: int, shape: tuple[int, int, int], device: str) -> SparseTensor:
    """Random features [count, channels] on sites in clusters, as surfaces make them."""
    random = torch.Generator().manual_seed(0)
    depth, height, width = shape
    centres = torch.rand((count // 20 + 1, 3), generator=random) * torch.tensor([depth, height, width])
    place = centres.repeat_interleave(60, 0) + torch.randn((len(centres) * 60, 3), generator=random) * 2
    place = place.round().long().clamp(min=0).minimum(torch.tensor([depth - 1, height - 1, width - 1])).unique(dim=0)
    place = place[torch.randperm(len(place), generator=random)[:count]]
    indices = torch.cat([torch.zeros(len(place), 1, dtype=torch.int64), place], 1).to(device)
    return SparseTensor(torch.randn((len(place), channels), generator=random).to(device), indices, shape, 1)


def _without_cache(x: SparseTensor) -> SparseTensor:
    """The same sites and features, whose neighbours have to be searched again."""
    return SparseTensor(x.features, x.indices, x.spatial_shape, x.batch_size)


def _boxes(random: np.random.Generator, count: int, reach: float) -> np.ndarray:
    """Boxes [count, 7] in the size of cars, x and y within +-reach metres."""
    low, high = [-reach, -reach, -1, 3, 1.4, 1.3, -3.1], [reach, reach, 0, 4.5, 1.9, 1.8, 3.1]
    return random.uniform(low, high, (count, 7))


def _ratios(timed: Any) -> dict[str, Any]:
    """Seconds of all alternatives, and how many times faster ours is than each other one."""
    others = [name for name in timed.seconds if name != "visionseq"]
    return {"seconds": timed.summary(), "speed_up": {name: timed.ratio(name, "visionseq") for name in others}}


def _resident_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
