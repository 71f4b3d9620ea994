"""Training of a detector: the loss falls, a resumed run ends at the same bits, what validation says."""

import pytest
import torch
from lightning import Trainer
from tiny_detector import NAMES, RANGE, tiny_config

from visionseq.data import PointCloudData
from visionseq.data.lidar import (
    GroundTruthSampling,
    PointPreparation,
    RandomFlip,
    RandomRotation,
    RandomScaling,
    build_database,
)
from visionseq.data.lidar.batch import PointCloudBatch
from visionseq.data.lidar.source import Training
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.errors import ConfigError, DataError
from visionseq.lion import KittiMetric, LionTask
from visionseq.optim.adam_onecycle import AdamOneCycle
from visionseq.training import fit

WORLD = LidarWorld(8, seed=3, sensor=LidarSensor(beams=16, columns=180), min_points=3)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("database")
    build_database(WORLD, folder)
    return str(folder)


def parts(database: str) -> tuple[LionTask, PointCloudData]:
    config = tiny_config()
    config["backbone_3d"]["operator"]["drop_path"] = 0.2
    config["dense_head"] |= {"iou": True, "max_obj_per_sample": 50}
    sampling = GroundTruthSampling(database, {"Car": 3, "Pedestrian": 3})
    training = Training([RandomFlip(), RandomRotation(), RandomScaling()], sampling)
    preparation = PointPreparation(["x", "y", "z", "intensity"], RANGE, NAMES)
    data = PointCloudData(WORLD, preparation, 2, WORLD, training, eval_batch_size=3, seed=1)
    torch.manual_seed(0)
    return LionTask(config, AdamOneCycle(lr=0.01), KittiMetric(reach=6.4)), data


def test_weights_come_from_the_generator_of_torch_which_is_left_unseeded():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        task = LionTask(tiny_config(), AdamOneCycle(lr=0.01))
        return torch.cat([parameter.flatten() for parameter in task.parameters()])

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


def test_a_run_is_not_resumed_on_other_classes(tmp_path):
    def start(names: list[str], **options) -> None:
        config = {**tiny_config(), "class_names": names}
        data = PointCloudData(WORLD, PointPreparation(["x", "y", "z", "intensity"], RANGE, names), 2)
        fit(LionTask(config, AdamOneCycle(lr=0.01)), data, run_dir=tmp_path, progress=False, **options)

    start(NAMES, max_steps=1)
    with pytest.raises(ConfigError, match=r"classes Pedestrian, Car.*, those of the checkpoint are Car, "):
        start(["Pedestrian", "Car", *NAMES[2:]], max_steps=2, ckpt_path="last")


def test_frames_without_labels_have_no_losses():
    task = LionTask(tiny_config(), AdamOneCycle(lr=0.01))
    batch = PointCloudBatch(torch.zeros(3, 5), None, torch.tensor([4]), frame_ids=["000004"])
    with pytest.raises(DataError, match="frame 000004: no labels; losses need them"):
        task.training_step(batch, 0)
    with pytest.raises(DataError, match="frame 000004: no labels; losses need them"):
        task.validation_step(batch, 0)


def test_a_resumed_run_ends_at_the_same_bits(database, tmp_path):
    options = {"max_steps": 6, "ema": 0.9, "log_every": 1, "checkpoint_every": 2, "picture_every": 3, "progress": False}
    task, data = parts(database)
    straight = fit(task, data, run_dir=tmp_path / "straight", **options)

    class Stop(Exception):
        pass

    from lightning import Callback

    class StopAfterThree(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:
                raise Stop

    task, data = parts(database)
    with pytest.raises(Stop):
        fit(task, data, run_dir=tmp_path / "halted", callbacks=[StopAfterThree()], **options)
    task, data = parts(database)
    resumed = fit(task, data, run_dir=tmp_path / "halted", ckpt_path="last", **options)
    for (name, a), (_, b) in zip(straight.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    one, two = ((tmp_path / run / "metrics.csv").read_text() for run in ("straight", "halted"))
    assert one == two
    pictures = sorted(path.name for path in (tmp_path / "halted" / "samples").iterdir())
    assert pictures == ["step_00000003.png", "step_00000006.png"]
    assert resumed.preprocessing["point_cloud_range"] == RANGE


def test_the_loss_falls(database):
    torch.manual_seed(0)
    task, data = parts(database)
    batch = data.train_source().fetch(torch.tensor([[0, 0], [0, 1]]).numpy())
    optimizer = torch.optim.Adam(task.model.parameters(), 0.01)
    losses = []
    for _ in range(25):
        loss = task.model.losses(batch.points, 2, batch.gt_boxes)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.5 * losses[0]


def test_validation_reaches_the_metric(database):
    task, data = parts(database)
    batch = data.eval_source().fetch(torch.tensor([[0, 0], [0, 1]]).numpy())
    task._evaluate(batch, "val")
    figures = task.metric.compute()
    assert set(figures) >= {"Car_3d_loose/moderate_R40", "mAP"}
    assert all(0 <= value <= 100 for value in figures.values())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("class_names", NAMES[::-1], "class_names: the detector has"),
        ("point_cloud_range", [2 * value for value in RANGE], "point_cloud_range: the detector has"),
        ("features", ["x", "y", "z"], "point_features: the detector has 4, data.preparation 3"),
    ],
)
def test_data_for_another_detector_is_refused(name, value, told, tmp_path):
    options = {"features": ["x", "y", "z", "intensity"], "point_cloud_range": RANGE, "class_names": NAMES}
    data = PointCloudData(WORLD, PointPreparation(**(options | {name: value})), 2)
    task = LionTask(tiny_config(), AdamOneCycle(lr=0.01))
    with pytest.raises(ConfigError, match=told):
        fit(task, data, run_dir=tmp_path, max_steps=1, progress=False)


def losses_of_validation(database: str, eval_batch_size: int) -> dict[str, float]:
    task, data = parts(database)
    task.metric, data.eval_batch_size = None, eval_batch_size
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (losses,) = trainer.validate(task, data, verbose=False)
    return losses


def test_the_losses_of_a_validation_do_not_depend_on_the_batch_size(database):
    whole = losses_of_validation(database, 8)
    assert {"val/loss"} < set(whole)
    for eval_batch_size in (1, 3):
        assert losses_of_validation(database, eval_batch_size) == pytest.approx(whole, rel=1e-6)


def test_the_classes_and_columns_of_a_saved_detector_are_compared_too():
    preparation = PointPreparation(["x", "y", "z", "intensity"], RANGE, NAMES)
    task, data = LionTask(tiny_config(), AdamOneCycle(lr=0.01)), PointCloudData(WORLD, preparation, 2)
    task.check_data(data)
    for name, value in (("class_names", NAMES[::-1]), ("features", ["x", "y", "z", "elongation"])):
        task.model.preprocessing = {**data.preprocessing, name: value}
        with pytest.raises(ConfigError, match=f"{name} of the earlier training: the detector has .*{value[-1]}"):
            task.check_data(data)
