"""Heads: maps in both modes, targets, losses, gradients, candidates and detections."""

import torch
from golden_vector import ReadVector, close
from torch import Tensor, nn

from lion_handlers.compare import check_gradients, load
from visionseq.lion.detections import Detections
from visionseq.lion.heads import AnchorHeadSingle, CenterHead, SparseCenterHead, TransFusionHead
from visionseq.lion.heads.transfusion_targets import heat_targets
from visionseq.lion.official import head_config
from visionseq.nn.sparse import SparseTensor


def center(vector: ReadVector) -> None:
    head = head_of(CenterHead, vector)
    x = vector["in/x"].clone().requires_grad_()
    predictions = head.eval()(x)
    for number, maps in enumerate(predictions):
        for name, values in maps.items():
            close(values, vector[f"out/eval_h{number}_{name}"], 1e-4)
    candidates = head.candidates(predictions[0], head.groups[0])
    for sample, (found, kept) in enumerate(zip(candidates, head.detections(predictions), strict=True)):
        same(found, vector, f"out/prenms_{sample}", first_label=0)
        same(kept, vector, f"out/det_b{sample}")
    gt_boxes = vector["in/gt_boxes"]
    predictions = head.train()(x)
    after = gt_boxes.clone()
    for number, (maps, group) in enumerate(zip(predictions, head.groups, strict=True)):
        for name, values in maps.items():
            close(values, vector[f"out/train_h{number}_{name}"], 1e-4)
        check_targets(vector, number, head.targets(gt_boxes, group, *maps["hm"].shape[2:]))
        after[..., -1] = in_group(after[..., -1], group)
    close(after, vector["out/gt_boxes_after"], 1e-6)  # what the official code leaves in the batch
    losses = head.losses(predictions, gt_boxes)
    check_losses(vector, losses, {"rpn_loss": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"x": x})


def sparse_center(vector: ReadVector) -> None:
    head = head_of(SparseCenterHead, vector, input_channels=vector["in/features"].shape[1])
    shape = tuple(vector.config["spatial_shape_yx"])
    features = vector["in/features"].clone().requires_grad_()
    gt_boxes = vector["in/gt_boxes"]
    x = SparseTensor(features, vector["in/indices"].long(), shape, len(gt_boxes))
    for mode in ("eval", "train"):
        predictions = head.train(mode == "train")(x)
        for number, values in enumerate(predictions[1]):
            for name, value in values.items():
                close(value, vector[f"out/{mode}_h{number}_{name}"], 1e-4)
        if mode == "eval":
            for sample, found in enumerate(head.detections(predictions)):
                same(found, vector, f"out/det_b{sample}")
    for number, group in enumerate(head.groups):
        check_targets(vector, number, head.targets(gt_boxes, group, x))
    losses = head.losses(predictions, gt_boxes)
    check_losses(vector, losses, {"rpn_loss": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"features": features})


def transfusion(vector: ReadVector) -> None:
    head = head_of(TransFusionHead, vector)
    x = vector["in/x"].clone().requires_grad_()
    predictions = head.eval()(x)
    for sample, found in enumerate(head.detections(predictions)):
        same(found, vector, f"out/det_b{sample}")
    check_maps(vector, "out/eval_", predictions)
    predictions = head.train()(x)
    check_maps(vector, "out/train_", predictions)
    gt_boxes = vector["in/gt_boxes"]
    assigned = head.assignment(predictions, gt_boxes)
    assert torch.equal(assigned.box_numbers, vector["out/assigned_gt_inds"])
    close(assigned.ious, vector["out/assigned_ious"], 1e-4)
    assert torch.equal(assigned.labels, vector["out/target_labels"])
    close(assigned.codes, vector["out/target_bbox_targets"], 1e-4)
    weights = assigned.matched.unsqueeze(-1).expand_as(assigned.codes).float()
    close(weights, vector["out/target_bbox_weights"], 0)
    assert torch.equal(torch.ones_like(assigned.labels), vector["out/target_label_weights"])
    close(assigned.matched.sum().view(1).float(), vector["out/target_num_pos"], 0)
    rows = zip(assigned.ious, assigned.matched, strict=True)
    mean_iou = torch.stack([ious[matched].mean() for ious, matched in rows]).mean()
    close(mean_iou.view(1), vector["out/target_matched_ious"], 1e-4)
    close(mean_iou.view(1), vector["out/tb_matched_ious"], 1e-4)
    heat = heat_targets(gt_boxes, head.frame, head.classes, predictions["dense_heatmap"].shape[2:])
    close(heat, vector["out/target_heatmap"], 1e-5)
    losses = head.losses(predictions, gt_boxes)
    check_losses(vector, losses, {"loss_trans": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"x": x})


def anchor(vector: ReadVector) -> None:
    config = vector.config
    names, low = config["class_names"], config["point_cloud_range"]
    size = [(low[i + 3] - low[i]) / config["grid_size_xyz"][i] for i in range(3)]
    values = head_config({"NAME": "AnchorHeadSingle", **config["head_cfg"]}, config["post_processing"])
    values.pop("type")
    head = load(AnchorHeadSingle(config["input_channels"], names, low, size, **values), vector)
    for label in range(len(names)):
        made = head.anchors[:, :, label]
        close(made, vector[f"out/anchors_{label}"].reshape(made.shape), 1e-5)
    x = vector["in/x"].clone().requires_grad_()
    predictions = head.eval()(x)
    close(predictions["cls"], vector["out/batch_cls_preds"], 1e-4)
    close(head.decode(predictions), vector["out/batch_box_preds"], 1e-4)
    for sample, found in enumerate(head.detections(predictions)):
        same(found, vector, f"out/det_b{sample}")
    gt_boxes = vector["in/gt_boxes"]
    labels, residuals, _ = head.targets(gt_boxes)
    assert torch.equal(labels, vector["out/box_cls_labels"].long())
    close(residuals, vector["out/box_reg_targets"], 1e-4)
    close((labels > 0).float(), vector["out/reg_weights"], 0)
    losses = head.losses(head.train()(x), gt_boxes)
    check_losses(vector, losses, {"rpn_loss": "loss"})
    losses["loss"].backward()
    check_gradients(vector, head, 1e-3, {"x": x})


def head_of(kind: type[nn.Module], vector: ReadVector, input_channels: int | None = None) -> nn.Module:
    """The head of the official section in the file, with the file's weights."""
    config = vector.config
    values = head_config({"NAME": kind.__name__, **config["head_cfg"]}, {})
    values.pop("type")
    channels = input_channels or config["input_channels"]
    place = (config["class_names"], config["point_cloud_range"], config["voxel_size"])
    return load(kind(channels, *place, **values), vector)


def same(found: Detections, vector: ReadVector, prefix: str, first_label: int = 1) -> None:
    """Set and order of the labels, values within 1e-4."""
    labels = vector[f"{prefix}_labels"]
    if not labels.is_floating_point():  # before suppression whatever the class, the official code has none yet
        assert torch.equal(found.labels - 1 + first_label, labels.long())
    close(found.boxes, vector[f"{prefix}_boxes"], 1e-4)
    close(found.scores, vector[f"{prefix}_scores"], 1e-4)


def check_maps(vector: ReadVector, prefix: str, predictions: dict[str, Tensor]) -> None:
    for name, expected in vector.tensors(prefix).items():
        close(predictions[name].to(expected.dtype), expected, 1e-4)


def check_losses(vector: ReadVector, losses: dict[str, Tensor], renamed: dict[str, str]) -> None:
    close(losses["loss"].view(1), vector["out/loss"], 1e-4)
    for name, expected in vector.tensors("out/tb_").items():
        if name != "matched_ious":
            close(losses[renamed.get(name, name)].view(1), expected, 1e-4)


def check_targets(vector: ReadVector, number: int, targets) -> None:
    prefix = f"out/target_h{number}_"
    close(targets.heatmaps, vector[f"{prefix}heatmaps"], 1e-5)
    assert torch.equal(targets.cells, vector[f"{prefix}inds"])
    assert torch.equal(targets.mask, vector[f"{prefix}masks"].bool())
    close(targets.boxes, vector[f"{prefix}target_boxes"], 1e-5)
    close(targets.source, vector[f"{prefix}target_boxes_src"], 1e-5)


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
