"""The five official evaluations."""

from itertools import pairwise

import numpy as np
from golden_vector import ReadVector, close
from torch import from_numpy, stack

from visionseq.metrics.detection.argoverse2 import Argoverse2AP
from visionseq.metrics.detection.kitti import KittiAP
from visionseq.metrics.detection.nuscenes import NuScenesNDS, class_curve
from visionseq.metrics.detection.once import OnceAP
from visionseq.metrics.detection.waymo import IOU, WaymoAP, _labelled, type_counts


def kitti(vector: ReadVector) -> None:
    config = vector.config
    metric = KittiAP(config["classes"])
    metric.update(_frames(vector, "dt", KittiAP.dt_columns), _frames(vector, "gt", KittiAP.gt_columns))
    curves = metric.curves()
    for ours, theirs in (("image", "bbox"), ("bev", "bev"), ("3d", "3d"), ("aos", "aos")):
        close(from_numpy(curves[ours]), vector[f"out/precision_{theirs}"], 1e-8)
        close(from_numpy(curves[ours][..., 1:].mean(-1) * 100), vector[f"out/mAP_{theirs}_R40"], 1e-6)
        close(from_numpy(curves[ours][..., ::4].mean(-1) * 100), vector[f"out/mAP_{theirs}"], 1e-6)
    figures = metric.compute()
    for name, expected in config["result"].items():
        assert abs(figures[name].item() - expected) < 1e-6


def nuscenes(vector: ReadVector) -> None:
    config = vector.config
    metric = NuScenesNDS(config["classes"])
    metric.update(_nuscenes_frames(vector, "pred"), _nuscenes_frames(vector, "gt"))
    aps, errors = metric.tables()
    close(from_numpy(aps), vector["out/label_aps"], 1e-9)
    expected = vector["out/label_tp_errors"].numpy()
    assert np.array_equal(np.isnan(errors), np.isnan(expected))
    close(from_numpy(np.nan_to_num(errors)), from_numpy(np.nan_to_num(expected)), 1e-9)
    figures = metric.compute()
    close(stack([figures["mAP"], figures["NDS"]]), vector["out/mAP_NDS"], 1e-9)
    means = stack([figures[name] for name in ("mATE", "mASE", "mAOE", "mAVE", "mAAE")])
    close(means, vector["out/tp_errors"], 1e-9)
    for name, rows in vector.tensors("out/curve_").items():
        kind, distance = name.rsplit("_", 1)
        curve = class_curve(metric.frames(), config["classes"].index(kind), kind, float(distance.removesuffix("m")))
        order = ("trans_err", "vel_err", "scale_err", "orient_err", "attr_err")
        found = [np.linspace(0, 1, 101), curve.precision, curve.confidence, *(curve.errors[error] for error in order)]
        defined = ~rows.isnan().all(1)
        close(from_numpy(np.stack(found))[defined], rows[defined], 1e-9)


def waymo(vector: ReadVector) -> None:
    names = ("Vehicle", "Pedestrian", "Sign", "Cyclist")
    metric = WaymoAP(names)
    targets, predictions = [], []
    for frame in sorted(set(vector["in/gt_frame"].tolist()) | set(vector["in/pred_frame"].tolist())):
        gt, dt = vector["in/gt_frame"] == frame, vector["in/pred_frame"] == frame
        targets.append({
            "name": np.array(names)[vector["in/gt_type"][gt].numpy() - 1],
            "box": vector["in/gt_box"][gt],
            "difficulty": vector["in/gt_difficulty"][gt],
            "num_points": vector["in/gt_num_points"][gt],
        })  # fmt: skip
        predictions.append({
            "name": np.array(names)[vector["in/pred_type"][dt].numpy() - 1],
            "box": vector["in/pred_box"][dt],
            "score": vector["in/pred_score"][dt],
            "no_label_zone": vector["in/pred_overlap_nlz"][dt],
        })  # fmt: skip
    metric.update(predictions, targets)
    figures = metric.compute()

    def table(places: tuple[str, ...]) -> np.ndarray:
        rows = [(name, place) for name in names for place in places]
        return np.array([
            [[figures[f"{name}/L{level}/{kind}{place}"] for kind in ("AP", "APH")] for level in (1, 2)]
            for name, place in rows
        ])  # fmt: skip

    by_type, by_range = table(("",)), table(("/0-30m", "/30-50m", "/50m+"))
    close(from_numpy(by_type), vector["out/exact_type"], 1e-4)
    close(from_numpy(by_range), vector["out/exact_range"], 1e-4)
    for found, name, of_a_type in ((by_type, "out/official_type", 1), (by_range, "out/official_range", 3)):
        error = np.abs(found - vector[name].numpy())
        assert error[of_a_type:].max() < 2e-4
        assert error[:of_a_type].max() < 4e-3  # one pair of vehicles, IoU 0.79, that the tool did not match
    frames = [(_labelled(gt), dt) for gt, dt in metric.frames()]
    counts = np.stack([type_counts(frames, i, IOU[name]) for i, name in enumerate(names)])
    expected = vector["out/tp_fp_fn_ha_type"].numpy()
    assert np.array_equal(counts[..., :3], expected[..., :3])
    close(from_numpy(counts[..., 3]), from_numpy(expected[..., 3]), 1e-4)


def argoverse2(vector: ReadVector) -> None:
    config = vector.config
    names = np.array(config["categories"])
    metric = Argoverse2AP(names.tolist(), config["max_range_m"], config["max_num_dts_per_category"])
    frames = sorted(set(vector["in/gt_frame"].tolist()) | set(vector["in/dt_frame"].tolist()))
    sides = {}
    for side, extra in (("gt", {"num_points": "in/gt_num_interior_pts"}), ("dt", {"score": "in/dt_score"})):
        sides[side] = [_cuboids(vector, side, names, extra, vector[f"in/{side}_frame"] == frame) for frame in frames]
    metric.update(sides["dt"], sides["gt"])
    found = metric.summary()
    expected = vector["out/summary"]
    close(from_numpy(found), expected[:-1], 1e-9)
    close(from_numpy(found.mean(0)), expected[-1], 1e-9)
    judged, evaluated = np.zeros((len(vector["in/dt_frame"]), 8)), np.zeros(len(vector["in/gt_frame"]))
    for frame, (gt, dt) in zip(frames, metric.frames(), strict=True):
        own = (vector["in/dt_frame"] == frame).nonzero()[:, 0].numpy()
        objects = (vector["in/gt_frame"] == frame).nonzero()[:, 0].numpy()
        for number in range(len(names)):
            metrics, rows, valid = metric.judge(gt, dt, number)
            judged[own[rows]] = metrics
            evaluated[objects] += valid
    close(from_numpy(judged), vector["out/dt_metrics"], 1e-9)
    close(from_numpy(evaluated), vector["out/gt_is_evaluated"], 0)


def once(vector: ReadVector) -> None:
    names = np.array(vector.config["NAMES"])
    metric = OnceAP(names.tolist())
    sides = {}
    for side in ("gt", "dt"):
        places = np.concatenate([[0], np.cumsum(vector[f"in/{side}_count"].numpy())])
        sides[side] = []
        for start, stop in pairwise(places.tolist()):
            frame = {"name": names[vector[f"in/{side}_name_code"][start:stop].numpy()]}
            frame["box"] = vector[f"in/{side}_boxes"][start:stop]
            if side == "dt":
                frame["score"] = vector["in/dt_score"][start:stop]
            sides[side].append(frame)
    metric.update(sides["dt"], sides["gt"])
    close(from_numpy(metric.table_of_ap()), vector["out/AP"], 1e-6)


def _cuboids(vector: ReadVector, side: str, names: np.ndarray, extra: dict[str, str], rows) -> dict[str, np.ndarray]:
    cuboids = vector[f"in/{side}_cuboid"][rows].numpy()
    frame = {"name": names[vector[f"in/{side}_cat"][rows].numpy()], "translation": cuboids[:, :3]}
    frame |= {"size": cuboids[:, 3:6], "rotation": cuboids[:, 6:]}
    return {**frame, **{name: vector[key][rows].numpy() for name, key in extra.items()}}


def _nuscenes_frames(vector: ReadVector, side: str) -> list[dict[str, np.ndarray]]:
    names, attributes = np.array(vector.config["classes"]), np.array([*vector.config["attributes"], ""])
    frames = []
    for sample in range(vector.config["samples"]):
        rows = vector[f"in/{side}_sample"] == sample
        columns = ("translation", "size_wlh", "rotation_wxyz", "velocity")
        frame = {name.split("_")[0]: vector[f"in/{side}_{name}"][rows].numpy() for name in columns}
        frame["name"] = names[vector[f"in/{side}_class"][rows].numpy()]
        frame["attribute"] = attributes[vector[f"in/{side}_attribute"][rows].numpy()]
        if side == "pred":
            frame["score"] = vector["in/pred_score"][rows].numpy()
        frames.append(frame)
    return frames


def _frames(vector: ReadVector, side: str, columns: dict[str, int]) -> list[dict[str, np.ndarray]]:
    names = np.array(vector.config["NAMES"])
    counts = vector[f"in/{side}_count"].tolist()
    places = np.concatenate([[0], np.cumsum(counts)])
    frames = []
    for start, stop in pairwise(places.tolist()):
        frame = {"name": names[vector[f"in/{side}_name_code"][start:stop].numpy()]}
        for name in columns:
            if name != "name":
                frame[name] = vector[f"in/{side}_{name}"][start:stop].numpy()
        frames.append(frame)
    return frames


HANDLERS = {
    "kitti_eval": kitti,
    "nuscenes_eval": nuscenes,
    "waymo_eval": waymo,
    "argo2_eval": argoverse2,
    "once_eval": once,
}
