"""Heads: maps in both modes, targets, losses, gradients, candidates and detections."""

from collections.abc import Iterable, Mapping

import torch
from golden_vector import GoldenVector, close
from torch import Tensor, nn

from lion_handlers.compare import check_gradients, load
from visionseq.lion.detections import Detections
from visionseq.lion.heads import AnchorHeadSingle, CenterHead, SparseCenterHead, TransFusionHead
from visionseq.lion.heads.transfusion_targets import Assignment, heat_targets
from visionseq.lion.official import head_config
from visionseq.nn.sparse import SparseTensor


def center(vector: GoldenVector) -> None:
    head = head_of(CenterHead, vector)
    x = vector["in/x"].clone().requires_grad_()

    # Evaluation: maps, candidates group after group, detections.
    predictions = head.eval()(x)
    check_heads(vector, "eval", predictions)
    groups = zip(predictions, head.groups, strict=True)
    candidates = [boxes for maps, group in groups for boxes in head.candidates(maps, group)]
    for number, boxes in enumerate(candidates):
        same(boxes, vector, f"out/prenms_{number}", first_label=0)
    for sample, boxes in enumerate(head.detections(predictions)):
        same(boxes, vector, f"out/det_b{sample}")

    # Training: maps and targets.
    gt_boxes = vector["in/gt_boxes"]
    predictions = head.train()(x)
    check_heads(vector, "train", predictions)
    after = gt_boxes.clone()
    for number, (maps, group) in enumerate(zip(predictions, head.groups, strict=True)):
        check_targets(vector, number, head.targets(gt_boxes, group, *maps["hm"].shape[2:]))
        after[..., -1] = in_group(after[..., -1], group)
    vector.close("out/gt_boxes_after", after, 1e-6)  # what the official code leaves in the batch

    # Losses and gradients.
    losses = head.losses(predictions, gt_boxes)
    check_losses(vector, losses, {"rpn_loss": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"x": x})


def sparse_center(vector: GoldenVector) -> None:
    head = head_of(SparseCenterHead, vector, input_channels=vector["in/features"].shape[1])
    shape = tuple(vector.config["spatial_shape_yx"])
    features = vector["in/features"].clone().requires_grad_()
    gt_boxes = vector["in/gt_boxes"]
    x = SparseTensor(features, vector["in/indices"].long(), shape, len(gt_boxes))
    for mode in ("eval", "train"):
        predictions = head.train(mode == "train")(x)
        check_heads(vector, mode, predictions[1])
        if mode == "eval":
            for sample, boxes in enumerate(head.detections(predictions)):
                same(boxes, vector, f"out/det_b{sample}")
    for number, group in enumerate(head.groups):
        check_targets(vector, number, head.targets(gt_boxes, group, x))
    losses = head.losses(predictions, gt_boxes)
    check_losses(vector, losses, {"rpn_loss": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"features": features})


def transfusion(vector: GoldenVector) -> None:
    head = head_of(TransFusionHead, vector)
    x = vector["in/x"].clone().requires_grad_()
    predictions = head.eval()(x)
    for sample, boxes in enumerate(head.detections(predictions)):
        same(boxes, vector, f"out/det_b{sample}")
    vector.close_all("out/eval_", predictions, 1e-4)
    predictions = head.train()(x)
    vector.close_all("out/train_", predictions, 1e-4)

    # Assignment and targets.
    gt_boxes = vector["in/gt_boxes"]
    assigned = head.assignment(predictions, gt_boxes)
    vector.equal("out/assigned_gt_inds", assigned.box_numbers)
    vector.close("out/assigned_ious", assigned.ious, 1e-4)
    vector.equal("out/target_labels", assigned.labels)
    vector.close("out/target_bbox_targets", assigned.codes, 1e-4)
    vector.equal("out/target_bbox_weights", assigned.matched.unsqueeze(-1).expand_as(assigned.codes))
    vector.equal("out/target_label_weights", torch.ones_like(assigned.labels))
    vector.equal("out/target_num_pos", assigned.matched.sum().view(1))
    matched_iou = mean_iou(assigned)
    vector.close("out/target_matched_ious", matched_iou.view(1), 1e-4)
    heat = heat_targets(gt_boxes, head.frame, head.classes, predictions["dense_heatmap"].shape[2:])
    vector.close("out/target_heatmap", heat, 1e-5)

    # Losses and gradients.
    losses = {**head.losses(predictions, gt_boxes), "matched_ious": matched_iou}
    check_losses(vector, losses, {"loss_trans": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"x": x})


def anchor(vector: GoldenVector) -> None:
    config = vector.config
    names, low = config["class_names"], config["point_cloud_range"]
    size = [(low[i + 3] - low[i]) / config["grid_size_xyz"][i] for i in range(3)]
    values = head_config({"NAME": "AnchorHeadSingle", **config["head_cfg"]}, config["post_processing"])
    values.pop("type")
    head = load(AnchorHeadSingle(config["input_channels"], names, low, size, **values), vector)
    for label in range(len(names)):
        made = head.anchors[:, :, label]
        close(f"anchors_{label}", made, vector.expected(f"out/anchors_{label}").reshape(made.shape), 1e-5)
    x = vector["in/x"].clone().requires_grad_()
    predictions = head.eval()(x)
    vector.close("out/batch_cls_preds", predictions["cls"], 1e-4)
    vector.close("out/batch_box_preds", head.decode(predictions), 1e-4)
    for sample, boxes in enumerate(head.detections(predictions)):
        same(boxes, vector, f"out/det_b{sample}")
    gt_boxes = vector["in/gt_boxes"]
    labels, residuals, _ = head.targets(gt_boxes)
    vector.equal("out/box_cls_labels", labels)
    vector.close("out/box_reg_targets", residuals, 1e-4)
    vector.equal("out/reg_weights", labels > 0)
    losses = head.losses(head.train()(x), gt_boxes)
    check_losses(vector, losses, {"rpn_loss": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"x": x})


def head_of(kind: type[nn.Module], vector: GoldenVector, input_channels: int | None = None) -> nn.Module:
    """The head of the official section in the file, with the file's weights."""
    config = vector.config
    values = head_config({"NAME": kind.__name__, **config["head_cfg"]}, {})
    values.pop("type")
    channels = input_channels or config["input_channels"]
    place = (config["class_names"], config["point_cloud_range"], config["voxel_size"])
    return load(kind(channels, *place, **values), vector)


def same(detections: Detections, vector: GoldenVector, prefix: str, first_label: int = 1) -> None:
    """Set and order of the labels, values within 1e-4."""
    labels = vector.expected(f"{prefix}_labels")
    if not labels.is_floating_point():  # before suppression whatever the class, the official code has none yet
        vector.equal(f"{prefix}_labels", detections.labels - 1 + first_label)
    vector.close(f"{prefix}_boxes", detections.boxes, 1e-4)
    vector.close(f"{prefix}_scores", detections.scores, 1e-4)


def check_heads(vector: GoldenVector, mode: str, predictions: Iterable[Mapping[str, Tensor]]) -> None:
    """The maps of every group's head, "eval" or "train"."""
    for number, maps in enumerate(predictions):
        vector.close_all(f"out/{mode}_h{number}_", maps, 1e-4)


def check_losses(vector: GoldenVector, losses: dict[str, Tensor], renamed: dict[str, str]) -> None:
    vector.close("out/loss", losses["loss"].view(1), 1e-4)
    for name in vector.names("out/tb_"):
        vector.close(f"out/tb_{name}", losses[renamed.get(name, name)].view(1), 1e-4)


def mean_iou(assigned: Assignment) -> Tensor:
    """Mean over the samples of the mean IoU of their matched proposals."""
    rows = zip(assigned.ious, assigned.matched, strict=True)
    return torch.stack([ious[matched].mean() for ious, matched in rows]).mean()


def check_targets(vector: GoldenVector, number: int, targets) -> None:
    prefix = f"out/target_h{number}_"
    vector.close(f"{prefix}heatmaps", targets.heatmaps, 1e-5)
    vector.equal(f"{prefix}inds", targets.cells)
    vector.equal(f"{prefix}masks", targets.mask)
    vector.close(f"{prefix}target_boxes", targets.boxes, 1e-5)
    vector.close(f"{prefix}target_boxes_src", targets.source, 1e-5)


def in_group(labels: Tensor, group: list[int]) -> Tensor:
    changed = labels.clone()
    for number, label in enumerate(group, 1):
        changed[labels == label] = number
    return changed


HANDLERS = {
    "center_head": center,
    "sparse_center_head": sparse_center,
    "transfusion_head": transfusion,
    "anchor_head": anchor,
}
