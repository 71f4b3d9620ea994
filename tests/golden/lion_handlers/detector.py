"""Whole detectors from raw points, the optimiser, and the names and shapes of the official configurations."""

import json
import math

import torch
from golden_vector import GoldenVector, close, first_number
from torch import nn

from lion_handlers.compare import Stub, check_gradients, load
from lion_handlers.heads import mean_iou
from visionseq.lion import model as lion_model
from visionseq.lion.detections import Detections
from visionseq.lion.model import LionDetector
from visionseq.lion.official import detector_config
from visionseq.lion.presets import preset
from visionseq.nn.mixers import Mamba
from visionseq.optim.adam_onecycle import AdamOneCycle

TOTALS = ("loss", "rpn_loss", "loss_rpn", "loss_trans")


def detector(vector: GoldenVector) -> None:
    config = vector.config
    data = {"POINT_CLOUD_RANGE": config["point_cloud_range"], "VOXEL_SIZE": config["voxel_size"]}
    values = detector_config(config["model_cfg"], config["class_names"], data, config["num_point_features"])
    double = "float64" in vector.tolerance
    network = load(build(values), vector, torch.float64 if double else torch.float32)
    points, gt_boxes = vector["in/points"], vector["in/gt_boxes"]
    points = points.double() if double else points

    # Evaluation: voxels, maps, detections.
    tolerance = first_number(vector.tolerance, 1e-5 if double else 1e-3)
    with torch.no_grad():
        voxels = network.eval().vfe(points, len(gt_boxes))
        vector.equal("out/voxel_coords", voxels.indices)
        features = lion_model.bev.height_compression(network.backbone_3d(voxels))
        vector.close("out/spatial_features_sum_over_channels", features.sum(1), tolerance)
        vector.close("out/spatial_features_2d", network.backbone_2d(features), tolerance)
    all_boxes = unsuppressed(network, points) if double else network.detect(points, len(gt_boxes))
    for sample, boxes in enumerate(all_boxes):
        check_boxes(boxes, vector, f"out/det_b{sample}", tolerance)

    # Training: losses and gradients.
    head, predictions = network.dense_head, network.train()(points, len(gt_boxes))
    losses = head.losses(predictions, gt_boxes)
    if "out/tb_matched_ious" in vector:
        losses["matched_ious"] = mean_iou(head.assignment(predictions, gt_boxes))
    check_losses(vector, losses, double)
    losses["loss"].backward()
    check_gradients(vector, network, 1e-4 if double else 1e-2, {})


def check_losses(vector: GoldenVector, losses: dict[str, torch.Tensor], double: bool) -> None:
    """All terms; of a float64 file the sum without the IoU terms.

    The official overlap of boxes writes float32 into the memory of its float64 result: pairs of overlaps become one
    wrong number. Doing so reproduces the IoU loss of detector_mamba to 4e-8 (exactly computed it is 2.1e-3 lower).
    """
    overlaps = [name for name in losses if "iou" in name] if double else []
    official_overlaps = sum(vector.expected(f"out/tb_{name}") for name in overlaps)
    tolerance = 1e-6 if double else 1e-3
    for name in ["loss", *(f"tb_{term}" for term in vector.names("out/tb_") if term not in overlaps)]:
        term = name.removeprefix("tb_")
        if term in TOTALS:
            total = (losses["loss"] - sum(losses[overlap] for overlap in overlaps)).view(1)
            close(name, total, vector.expected(f"out/{name}") - official_overlaps, tolerance)
        else:
            vector.close(f"out/{name}", losses[term].view(1), tolerance)


def build(values: dict) -> nn.Module:
    """The detector; a stub operator is put in where the file names it."""
    if values["backbone_3d"]["operator"]["name"] != "Stub":
        return LionDetector.from_config(values)
    operator = lion_model.operator
    lion_model.operator = lambda name, **_: Stub
    try:
        return LionDetector.from_config(values)
    finally:
        lion_model.operator = operator


def unsuppressed(network: nn.Module, points: torch.Tensor) -> list[Detections]:
    """The candidates of a centre head, class after class.

    The float64 files hold all of them as detections: boxes of one class with an exact IoU of 0.6 are side by side where
    the threshold is 0.3 (in float32 the same suppression agrees), as if its doubles had been read as float32.
    """
    with torch.no_grad():
        (maps,) = network(points, int(points[:, 0].max()) + 1)
        head = network.dense_head
        candidates = head.candidates(maps, head.groups[0])
    ordered = []
    for sample in candidates:
        order = torch.cat([
            rows[sample.scores[rows].argsort(descending=True)]
            for rows in ((sample.labels == label).nonzero()[:, 0] for label in head.groups[0])
        ])  # fmt: skip
        ordered.append(sample.map(lambda values, order=order: values[order]))
    return ordered


def check_boxes(detections: Detections, vector: GoldenVector, prefix: str, tolerance: float) -> None:
    vector.equal(f"{prefix}_labels", detections.labels)
    boxes, expected = detections.boxes.clone(), vector[f"{prefix}_boxes"]
    turn = (boxes[:, 6] - expected[:, 6]) / (2 * math.pi)
    boxes[:, 6] -= turn.round() * 2 * math.pi
    vector.close(f"{prefix}_boxes", boxes, tolerance)
    vector.close(f"{prefix}_scores", detections.scores, tolerance)


def official_shapes(vector: GoldenVector) -> None:
    for name, counts in vector.config["params"].items():
        with torch.device("meta"):
            network = LionDetector.from_config(preset(name))
        assert sum(p.numel() for p in network.parameters()) == counts["total"]
        for part in ("vfe", "backbone_3d", "backbone_2d", "dense_head"):
            module = getattr(network, part)
            size = 0 if module is None else sum(p.numel() for p in module.parameters())
            assert size == counts.get(part, 0), f"{name}: {part}"
        assert list(network.vfe.grid) == counts["grid_xyz"]
        if f"out/{name}" in vector:
            expected = json.loads(bytes(vector.expected(f"out/{name}").tolist()))
            shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
            counters = {key for key in shapes if key.endswith("num_batches_tracked")}
            official = {key: list(shape) for key, shape in expected.items() if key != "global_step"}
            assert set(shapes) - counters <= set(official)
            assert set(official) <= set(shapes)
            assert all(shapes[key] == shape for key, shape in official.items() if key not in counters)


# A bias before BatchNorm has the gradient zero; Adam makes steps of full length of what rounding leaves of it, which no
# two implementations share (in float64 it is 1e-17). It shifts the running mean; steps of opposite sign bound both.
AFTER_ROUNDING = ("lin.bias", "bn.running_mean")


class Toy(nn.Module):
    def __init__(self, mamba: dict):
        super().__init__()
        width = mamba["d_model"]
        self.lin, self.bn, self.ln = nn.Linear(4, width), nn.BatchNorm1d(width), nn.LayerNorm(width)
        self.blk = Mamba(width, mamba["d_state"], mamba["d_conv"], mamba["expand"], bidirectional=True)
        self.out = nn.Linear(width, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.blk(self.ln(self.bn(self.lin(x))).unsqueeze(0))[0])


def one_cycle(vector: GoldenVector) -> None:
    config = vector.config
    network = load(Toy(config["mamba"]), vector)
    options = AdamOneCycle(
        config["LR"], config["WEIGHT_DECAY"], tuple(config["MOMS"]), config["PCT_START"], config["DIV_FACTOR"]
    )
    built = options.build(network.parameters(), config["total_steps"])
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    rates, momenta = [], []
    for step in range(config["total_steps"]):
        group = optimizer.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["betas"][0])
        optimizer.zero_grad()
        network(vector["in/x"][step]).square().sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        for name in vector.names(f"out/step{step + 1}/"):
            expected = vector.expected(f"out/step{step + 1}/{name}")
            apart = 2 * sum(rates) if name in AFTER_ROUNDING else 0.0
            close(name, network.state_dict()[name].view(expected.shape), expected, 1e-5 + apart)
    vector.close("out/lr", torch.tensor(rates, dtype=torch.float64), 1e-12)
    vector.close("out/mom", torch.tensor(momenta, dtype=torch.float64), 1e-12)


HANDLERS = {"detector": detector, "official_state_shapes": official_shapes, "adam_onecycle": one_cycle}
