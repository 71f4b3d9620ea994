"""From frames to training batches: augmentation, pasting of objects, keys, workers, resumes."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.data.lidar import augment
from visionseq.data.lidar.database import GroundTruthDatabase, build_database
from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.gt_sampling import GroundTruthSampling
from visionseq.data.lidar.preparation import PointPreparation, encode_boxes, prepare_points
from visionseq.data.lidar.source import PointCloudSource, Training, padded_boxes
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.data.loader import LoaderOptions
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import DATABASE, NEAREST, bev_iou, count_points

RANGE = [-40.0, -40.0, -3.0, 40.0, 40.0, 2.0]
PREPARATION = PointPreparation(["x", "y", "z", "intensity"], RANGE, ["Car", "Pedestrian", "Cyclist"])
WORLD = LidarWorld(6, seed=3, sensor=LidarSensor(beams=16, columns=180, range_noise=0.0), min_points=3)
MARGIN = np.float32([0, 0, 0, 0.1, 0.1, 0.1, 0])  # metres, against rounding at the faces
QUEUE = [augment.RandomFlip(), augment.RandomRotation(), augment.RandomScaling(), augment.RandomTranslation()]


class OneFrame:
    """A data set of a frame."""

    class_names, features, frame_ids = ("Car", "Dog"), ("x", "y", "z", "intensity"), ["a"]

    def __init__(self, frame: LidarFrame):
        self.only = frame

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> LidarFrame:
        return self.only


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("database")
    build_database(WORLD, folder)
    return str(folder)


@pytest.mark.parametrize("step", QUEUE, ids=lambda step: type(step).__name__)
@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_points_stay_in_their_boxes(step, seed):
    frame = WORLD.frame(seed % len(WORLD))
    boxes = frame.boxes + MARGIN
    points, moved = step.apply(frame.points, boxes, np.random.default_rng(seed))
    assert np.array_equal(count_points(points, moved, DATABASE) > 0, count_points(frame.points, boxes, DATABASE) > 0)
    assert np.array_equal(frame.points, WORLD.frame(seed % len(WORLD)).points)


def test_two_flips_are_none_and_velocities_turn_along():
    frame = WORLD.frame(0)
    boxes = np.concatenate([frame.boxes, np.ones((len(frame.boxes), 2), np.float32)], 1)
    for axis in "xy":
        points, moved = augment.flip(*augment.flip(frame.points, boxes, axis), axis)
        assert np.array_equal(points, frame.points)
        np.testing.assert_allclose(np.cos(moved[:, 6]), np.cos(boxes[:, 6]), atol=1e-5)
        assert np.array_equal(moved[:, 7:], boxes[:, 7:])
    _, turned = augment.rotate(frame.points, boxes, np.pi / 2)
    np.testing.assert_allclose(turned[:, 7:], np.tile([-1, 1], (len(boxes), 1)), atol=1e-6)


def test_the_database_holds_what_was_cut_out(database):
    found = GroundTruthDatabase(database)
    assert len(found) == sum(len(WORLD.labels(i).boxes) for i in range(len(WORLD)))
    frame = WORLD.frame(0)
    for number in range(len(frame.boxes)):
        own = found.points_of(number)
        box = np.concatenate([np.zeros(3), frame.boxes[number, 3:]])[None]
        assert len(own) == found.counts[number]
        assert count_points(own, box + MARGIN, DATABASE).tolist() == [len(own)]


def test_a_point_belongs_to_the_first_box_where_the_test_says_so(tmp_path):
    row = np.arange(0, 6, 0.5, np.float32) + np.float32(0.25)
    frame = LidarFrame("a", np.column_stack([row, row * 0, row * 0, row]))
    frame.boxes = np.float32([[2, 0, 0, 4, 2, 2, 0], [4, 0, 0, 4, 2, 2, 0]])  # from 0 to 4 and from 2 to 6
    frame.names = np.array(["Dog", "Car"])
    for test, classes, expected in (
        (NEAREST, None, [8, 4]),
        (NEAREST, ["Car"], [4]),  # what the other box holds is lost all the same
        (DATABASE, None, [8, 8]),
    ):
        database = build_database(OneFrame(frame), tmp_path, classes, test)
        assert database.counts.tolist() == expected
    np.testing.assert_array_equal(build_database(OneFrame(frame), tmp_path, None, NEAREST).points_of(1)[:, 3], row[8:])


UNCLOSED = b"{'descr': '<f4', 'shape': (3,".ljust(118)  # no Python: the error comes from its tokeniser


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("database.json", b"{}", "features None, expected the names of the columns"),
        ("database.json", b'{"features": "xyz"}', "features xyz, expected the names"),
        ("database.json", b"[" * 100_000, "not a JSON text"),
        ("objects.npz", b"PK\x03\x04nonsense", "no intact npz file"),
        ("points.npy", b"\x93NUMPY", "not a numpy array"),
        ("points.npy", b"\x93NUMPY\x01\x00\x76\x00" + UNCLOSED, "not a numpy array"),
    ],
)
def test_a_damaged_database_is_named(tmp_path, name, damage, message):
    build_database(WORLD, tmp_path)
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        GroundTruthDatabase(tmp_path).points_of(0)


def test_a_database_that_is_cut_short_is_named(tmp_path):
    build_database(WORLD, tmp_path)
    np.save(tmp_path / "points.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(DataError, match=r"points.npy: 3 points, objects.npz expects"):
        GroundTruthDatabase(tmp_path).points_of(0)
    arrays = dict(np.load(tmp_path / "objects.npz"))
    arrays["starts"][:] = arrays["counts"][:] = np.iinfo(np.int64).max  # their sum is negative
    np.savez(tmp_path / "objects.npz", **arrays)
    with pytest.raises(DataError, match=r"points.npy: 3 points, objects.npz expects"):
        GroundTruthDatabase(tmp_path).points_of(0)
    with pytest.raises(ConfigError, match="is missing"):
        GroundTruthSampling(str(tmp_path / "none"), {})


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_pasted_objects_touch_nothing_and_bring_their_points(database, seed):
    sampling = GroundTruthSampling(database, {"Car": 8, "Pedestrian": 8}, min_points=4)
    frame = WORLD.frame(seed % len(WORLD))
    points, boxes, names = sampling.apply(frame.points, frame.boxes, frame.names, np.random.default_rng(seed))
    assert len(boxes) == len(names) >= len(frame.boxes)
    overlap = bev_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).fill_diagonal_(0)
    assert (
        overlap[len(frame.boxes) :].max(initial=torch.tensor(0)) == 0
        if len(boxes) < 1
        else not overlap[len(frame.boxes) :].any()
    )
    added = boxes[len(frame.boxes) :]
    assert (count_points(points, added + np.float32([0, 0, 0, 0.1, 0.1, 0.1, 0]), DATABASE) >= 4).all()


def keys(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.int64)


def same(a, b) -> bool:
    return torch.equal(a.points, b.points) and torch.equal(a.gt_boxes, b.gt_boxes) and a.frame_ids == b.frame_ids


def test_a_sample_depends_on_seed_epoch_and_index_alone(database):
    training = Training(QUEUE, GroundTruthSampling(database, {"Car": 5}))
    source = PointCloudSource(WORLD, PREPARATION, 1, training)
    first = source.fetch(keys((0, 2), (1, 2)))
    again = source.fetch(keys((5, 0), (0, 2), (1, 2)))
    for sample in range(2):
        mine, theirs = first.points[:, 0] == sample, again.points[:, 0] == sample + 1
        assert torch.equal(first.points[mine][:, 1:], again.points[theirs][:, 1:])
    assert not same(first, PointCloudSource(WORLD, PREPARATION, 2, training).fetch(keys((0, 2), (1, 2))))
    assert len(first) == first.batch_size == 2
    assert first.gt_boxes.shape[2] == 8
    assert first.gt_boxes[..., 7].unique().tolist()[-1] <= 3


@pytest.mark.parametrize(("workers", "method"), [(1, "spawn"), (2, "fork")])
def test_any_number_of_workers_gives_the_same_batches(database, workers, method):
    from visionseq.data import PointCloudData

    def batches(**options) -> list:
        sampling = GroundTruthSampling(database, {"Car": 5})
        data = PointCloudData(
            WORLD, PREPARATION, 2, training=Training(QUEUE, sampling), loader=LoaderOptions(**options), seed=4
        )
        loader = iter(data.train_dataloader())
        found = [next(loader) for _ in range(4)]
        data.teardown("fit")
        return found

    for a, b in zip(batches(), batches(num_workers=workers, start_method=method), strict=True):
        assert same(a, b)


def test_the_last_epochs_are_plain(database):
    sampling = GroundTruthSampling(database, {"Car": 5})
    training = Training(QUEUE, sampling, total_epochs=5, without_sampling=2, without_augmentation=1)
    assert training.in_epoch(2).gt_sampling is sampling
    assert training.in_epoch(3).gt_sampling is None
    assert training.in_epoch(3).augmentations == QUEUE
    assert training.in_epoch(4).augmentations == []
    with_all = Training(QUEUE, sampling)
    assert with_all.in_epoch(100) is with_all


class Frames:
    """Scenes as they should not be."""

    class_names, features, frame_ids = ("Car",), ("x", "y", "z", "intensity"), ["nothing", "bad", "good"]

    def __len__(self) -> int:
        return 3

    def frame(self, index: int) -> LidarFrame:
        if index == 0:
            return LidarFrame("nothing", np.zeros((0, 4), np.float32), np.zeros((0, 7), np.float32), np.zeros(0, "U1"))
        points = np.float32([[1, 1, 0, 0.5], [np.nan, 0, 0, 0], [0, np.inf, 0, 0], [500, 0, 0, 0]])
        box = np.float32([[1, 1, 0, 4, 2, 2, 9.0]])
        far = box + np.float32([1000, 0, 0, 0, 0, 0, 0])
        return LidarFrame(self.frame_ids[index], points, far if index == 1 else box, np.array(["Car"]))


def test_odd_scenes_are_counted_not_lost():
    batch = PointCloudSource(Frames(), PREPARATION).fetch(keys((0, 0), (0, 1), (0, 2)))
    assert batch.points[:, 0].tolist() == [1, 2]
    assert batch.dropped == 4
    assert batch.frame_ids == ["nothing", "bad", "good"]
    assert [len(frame.boxes) for frame in batch.frames] == [0, 1, 1]
    trained = PointCloudSource(Frames(), PREPARATION, 0, Training()).fetch(keys((0, 0)))
    assert trained.gt_boxes[0, 0, 7] == 1  # another frame, which has a box in range
    heading = trained.gt_boxes[0, 0, 6].item()
    assert -np.pi <= heading < np.pi


class FlatBoxes(Frames):
    """Two of three boxes have no volume."""

    def frame(self, index: int) -> LidarFrame:
        boxes = np.float32([[1, 1, 0, 4, 2, 2, 0], [2, 2, 0, 4, 2, 0, 0], [3, 3, 0, np.nan, 2, 2, 0]])
        return LidarFrame(self.frame_ids[index], np.float32([[1, 1, 0, 0.5]]), boxes, np.array(["Car"] * 3))


@pytest.mark.parametrize("training", [None, Training()], ids=["evaluated", "trained"])
def test_boxes_without_a_volume_are_told_once_and_not_learned(training, caplog):
    source = PointCloudSource(FlatBoxes(), PREPARATION, 0, training)
    for _ in range(2):
        batch = source.fetch(keys((0, 1), (0, 2)))
        assert batch.gt_boxes[..., :6].tolist() == [[[1, 1, 0, 4, 2, 2]]] * 2
    message = "bad: 2 boxes without a volume are not learned (reported once)"
    assert [record.getMessage() for record in caplog.records] == [message]


def test_points_that_are_not_finite_are_told_once_with_their_frame(caplog):
    for training in (None, Training()):
        source = PointCloudSource(Frames(), PREPARATION, 0, training)
        for _ in range(2):
            source.fetch(keys((0, 2), (0, 1)))
        message = "good: 2 of 4 points are not finite and left out (reported once)"
        assert [record.getMessage() for record in caplog.records] == [message]
        caplog.clear()


@pytest.mark.parametrize("training", [None, Training()], ids=["evaluated", "trained"])
def test_a_frame_whose_names_nobody_knows_is_told_once(training, caplog):
    wrong = replace(PREPARATION, class_names=["car", "person"])
    source = PointCloudSource(WORLD, wrong, 0, training)
    for _ in range(2):
        assert not source.fetch(keys((0, 0), (0, 1))).gt_boxes.any()
    found = ", ".join(sorted(set(WORLD.frame(0).names.tolist())))
    message = f"000000: no box is of a class that is learned (car, person), found {found} (reported once)"
    assert [record.getMessage() for record in caplog.records] == [message]


def test_objects_that_are_pasted_do_not_hide_wrong_names(database, caplog):
    class Renamed(LidarWorld):
        def frame(self, index: int) -> LidarFrame:
            frame = super().frame(index)
            return replace(frame, names=np.char.lower(frame.names))

    sampling = GroundTruthSampling(database, {"Car": 5})
    PointCloudSource(Renamed(2, sensor=WORLD.sensor), PREPARATION, 0, Training([], sampling)).fetch(keys((0, 0)))
    assert "no box is of a class that is learned" in caplog.text


def test_classes_that_the_data_set_lacks_are_refused():
    from visionseq.data import PointCloudData

    wrong = replace(PREPARATION, class_names=["Car", "person"])
    for sets in ({"dataset": WORLD}, {"dataset": WORLD, "eval_dataset": Frames()}):
        with pytest.raises(
            ConfigError, match=r"class_names Car, person; dataset has Car, Pedestrian, Cyclist, not person"
        ):
            PointCloudData(preparation=wrong, batch_size=1, **sets)
    with pytest.raises(ConfigError, match=r"class_names Car, Pedestrian, Cyclist; eval_dataset has Car, not Ped"):
        PointCloudData(WORLD, replace(PREPARATION, class_names=[]), 1, Frames())
    fewer = replace(PREPARATION, class_names=["Car"])
    assert PointCloudData(WORLD, fewer, 1, Frames()).class_names == ["Car"]


def test_sampling_refuses_classes_and_columns_that_do_not_fit(database):
    found = ", ".join(np.unique(GroundTruthDatabase(database).names))
    with pytest.raises(ConfigError, match=rf"sample_groups names car, {database} has {found}"):
        PointCloudSource(WORLD, PREPARATION, 0, Training([], GroundTruthSampling(database, {"car": 5})))
    other = LidarWorld(2)
    for features in (("x", "y", "z"), ("x", "y", "z", "intensity", "ring"), ("x", "y", "z", "ring")):
        other.features = features
        columns = rf"columns x, y, z, intensity, the frames have {', '.join(features)}"
        with pytest.raises(ConfigError, match=columns):
            PointCloudSource(other, PREPARATION, 0, Training([], GroundTruthSampling(database, {"Car": 5})))


def test_boxes_without_velocity_are_not_pasted_into_scenes_with_it(database):
    sampling = GroundTruthSampling(database, {"Car": 5})
    frame = WORLD.frame(0)
    boxes = np.concatenate([frame.boxes, np.zeros((len(frame.boxes), 2), np.float32)], 1)
    with pytest.raises(DataError, match=rf"{database}: boxes of 7 values, the scene's have 9"):
        sampling.apply(frame.points, boxes, frame.names, np.random.default_rng(0))
    with pytest.raises(DataError, match=rf"{database}: points of 4 columns, the scene's have 5"):
        sampling.apply(np.zeros((3, 5), np.float32), frame.boxes, frame.names, np.random.default_rng(0))


def test_objects_of_several_sweeps_bring_the_points_of_the_scene_s_own(tmp_path):
    class Timed(LidarWorld):
        features = ("x", "y", "z", "intensity", "time")

        def frame(self, index: int) -> LidarFrame:
            frame = super().frame(index)
            lags = np.where(np.arange(len(frame.points)) % 2, 0.1, 0).astype(np.float32)
            return replace(frame, points=np.column_stack([frame.points, lags]))

    timed = Timed(2, 3, WORLD.sensor, 3)
    database = build_database(timed, tmp_path)
    sampling = GroundTruthSampling(str(tmp_path), {"Car": 9}, min_points=0)
    PointCloudSource(WORLD, PREPARATION, 0, Training([], sampling)).fetch(keys((0, 0)))
    nothing = np.zeros((0, 4), np.float32), np.zeros((0, 7), np.float32), np.zeros(0, "U1")
    scene = sampling.apply(*nothing, np.random.default_rng(0))
    cars = [database.points_of(number) for number in (database.names == "Car").nonzero()[0]]
    kept = {tuple(row) for own in cars for row in own[own[:, 4] == 0][:, 3:4].tolist()}
    assert 0 < len(scene.points) <= sum((own[:, 4] == 0).sum() for own in cars)
    assert {tuple(row) for row in scene.points[:, 3:].tolist()} <= kept


def test_what_may_be_pasted_is_found_once(database):
    sampling = GroundTruthSampling(database, {"Car": 5})
    assert sampling.draws()["Car"].numbers is sampling.draws()["Car"].numbers


def test_a_sampling_travels_without_what_it_opened(database):
    sampling = GroundTruthSampling(database, {"Car": 5})
    frame = WORLD.frame(0)
    scenes = [sampling.apply(frame.points, frame.boxes, frame.names, np.random.default_rng(1))]
    data = pickle.dumps(sampling)
    assert len(data) < 1000
    again = pickle.loads(data)  # noqa: S301 (our own bytes)
    scenes.append(again.apply(frame.points, frame.boxes, frame.names, np.random.default_rng(1)))
    assert np.array_equal(scenes[0].points, scenes[1].points)


def test_what_a_model_needs_and_points_lack_is_named():
    with pytest.raises(DataError, match="no column intensity, found x, y, z"):
        prepare_points(np.zeros((3, 3), np.float32), ("x", "y", "z"), PREPARATION)
    with pytest.raises(DataError, match="takes image input"):
        PointPreparation.of({"kind": "image"})
    assert PointPreparation.of(PREPARATION.preprocessing) == PREPARATION


def test_two_million_points_pass():
    points = np.random.default_rng(0).normal(0, 30, (2_000_000, 4)).astype(np.float32)
    found = prepare_points(points, ("x", "y", "z", "intensity"), PREPARATION)
    assert 1_000_000 < len(found.points) < 2_000_000


def test_squashed_columns_and_unknown_velocities():
    preparation = PointPreparation(["x", "y", "z", "intensity"], RANGE, ["Car"], squashed=["intensity"])
    found = prepare_points(np.float32([[0, 0, 0, 2.0]]), ("x", "y", "z", "intensity"), preparation)
    assert found.points[0, 3] == np.tanh(np.float32(2))
    boxes = np.float32([[0, 0, 0, 4, 2, 2, 0, np.nan, np.nan], [0, 0, 0, 4, 2, 2, 0, 1, 2]])
    encoded = encode_boxes(boxes, np.array(["Car", "Tram"]), preparation)
    assert encoded.tolist() == [[0, 0, 0, 4, 2, 2, 0, 0, 0, 1]]


def test_the_class_stays_last_where_boxes_with_and_without_velocity_meet():
    plain, moving = np.ones((1, 8), np.float32), np.full((2, 10), 3, np.float32)
    padded = padded_boxes([plain, moving])
    assert padded[0].tolist() == [[1] * 7 + [0, 0, 1], [0] * 10]
    assert padded[1].tolist() == [[3] * 10] * 2
