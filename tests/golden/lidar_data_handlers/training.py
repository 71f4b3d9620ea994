"""Augmentations, ground-truth sampling and class-balanced resampling."""

import json
from tempfile import TemporaryDirectory

import numpy as np
from golden_vector import GoldenVector

from visionseq.data.lidar import augment
from visionseq.data.lidar.gt_sampling import GroundTruthSampling, on_road_plane
from visionseq.data.lidar.resampling import balanced_numbers
from visionseq.geometry import Calibration


def augmentations(vector: GoldenVector) -> None:
    config, points, boxes = vector.config, vector["in/points"].numpy(), vector["in/gt_boxes"].numpy()
    scenes = {
        "flip_x": augment.flip(points, boxes, "x"),
        "flip_y": augment.flip(points, boxes, "y"),
        "rot": augment.rotate(points, boxes, config["rotation"]),
        "scale": augment.scale(points, boxes, config["scale"]),
    }
    scenes["queue"] = queue(points, boxes, config["queue_seed"], _scaling_of(config))
    for name, (moved, turned) in scenes.items():
        vector.close(f"out/{name}_points", moved, 1e-4)
        vector.close(f"out/{name}_boxes", turned, 1e-4)


def queue(points: np.ndarray, boxes: np.ndarray, seed: int, scaling: augment.RandomScaling) -> augment.Scene:
    random = np.random.RandomState(seed)
    steps = (augment.RandomFlip(), augment.RandomRotation(), scaling, augment.RandomTranslation())
    for step in steps:
        points, boxes = step.apply(points, boxes, random)
    return points, augment.wrap_headings(boxes)


def _scaling_of(config: dict) -> augment.RandomScaling:
    """Which of the two ranges in use gives the factor that the file was made with."""
    random = np.random.RandomState(config["queue_seed"])
    for _ in range(2):
        random.choice([False, True], replace=False, p=[0.5, 0.5])
    random.uniform()
    share = random.uniform()
    ranges = [augment.RandomScaling(0.95, 1.05), augment.RandomScaling(0.9, 1.1)]
    return min(ranges, key=lambda r: abs(r.low + (r.high - r.low) * share - config["queue_scale"]))


def gt_sampling(vector: GoldenVector) -> None:
    config = vector.config
    calibration = Calibration(*(vector[f"in/calib_{name}"].numpy() for name in ("P2", "R0", "Tr_velo2cam")))
    names = np.array([*config["classes"], "other"])
    boxes, labels = vector["in/gt_boxes"].numpy(), names[vector["in/gt_class"].numpy()]
    plane = vector["in/road_plane"].numpy()
    moved, heights = on_road_plane(boxes, plane, calibration)
    vector.close("out/boxes_on_plane", moved, 1e-4)
    vector.close("out/mv_height", heights, 1e-4)
    with TemporaryDirectory() as folder:
        database = _database(vector, folder)
        for variant, options in config["variants"].items():
            sampling = GroundTruthSampling(
                database,
                config["sample_groups"],
                config["min_points"],
                options["LIMIT_WHOLE_SCENE"],
                options["USE_ROAD_PLANE"],
                tuple(options["REMOVE_EXTRA_WIDTH"]),
                config["removed_difficulty"],
            )
            random, draws = np.random.RandomState(config["seed"]), sampling.draws()
            vector.equal(f"out/{variant}_db_size", [len(draw.numbers) for draw in draws.values()])
            for call in range(len({name.split("_")[0] for name in vector.names(f"out/{variant}_call")})):
                scene = sampling.apply(vector["in/points"].numpy(), boxes, labels, random, draws, plane, calibration)
                known = scene.names != "other"
                vector.close(f"out/{variant}_call{call}_points", scene.points, 1e-4)
                vector.close(f"out/{variant}_call{call}_boxes", scene.boxes[known], 1e-4)
                numbers = [config["classes"].index(name) for name in scene.names[known]]
                vector.equal(f"out/{variant}_call{call}_class", numbers)


def _database(vector: GoldenVector, folder: str) -> str:
    """The file's objects in the layout of `build_database`."""
    counts = vector["in/db_num_points"].numpy()
    names = np.array([*vector.config["classes"], "other"])[vector["in/db_class"].numpy()]
    arrays = {"boxes": vector["in/db_boxes"].numpy().astype(np.float32), "names": names, "counts": counts}
    arrays |= {"starts": np.cumsum(counts) - counts, "difficulty": vector["in/db_difficulty"].numpy()}
    np.savez(f"{folder}/objects.npz", **arrays)
    np.save(f"{folder}/points.npy", vector["in/db_points"].numpy())
    with open(f"{folder}/database.json", "w") as file:
        json.dump({"features": ["x", "y", "z", "intensity"]}, file)
    return folder


def cbgs(vector: GoldenVector) -> None:
    classes = vector.config["classes"]
    rows = vector["in/class_present"].tolist()
    present = [{name for name, is_present in zip(classes, row, strict=True) if is_present} for row in rows]
    numbers = balanced_numbers(present, classes, np.random.RandomState(vector.config["seed"]))
    vector.equal("out/sampled_index", numbers)
    total = sum(len(names) for names in present)
    counts = [sum(name in names for names in present) for name in classes]
    drawn = [int(count * (1 / len(classes)) / (count / total)) if count else 0 for count in counts]
    vector.equal("out/num_per_class", drawn)


HANDLERS = {"augment": augmentations, "gt_sampling": gt_sampling, "cbgs": cbgs}
