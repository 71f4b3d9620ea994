"""How users call visionseq. `make lint` checks this file strictly: each public name has its real type.

It is never run. `assert_type` compares the type that the checker infers with the one that is written here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import assert_type

import visionseq
from visionseq import convert, geometry, rooms, viz, zoo
from visionseq.data import Digits, ImageData, ImageFolder
from visionseq.data.lidar import Kitti, LidarFrame
from visionseq.data.lidar_world import LidarWorld
from visionseq.data.pairs import PairDataset, open_pairs
from visionseq.data.point_files import read_points
from visionseq.flow import SamplingPipeline, sample_t
from visionseq.kernels import linear_scan
from visionseq.lion import Detections, FrameInput, LionDetector, detect_frame, load_detector
from visionseq.metrics import KittiAP
from visionseq.nn import mixers
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow import EDMDenoiser, EDMVelocity, TeacherTask
from visionseq.saving.pretrained import PretrainedModel
from visionseq.training import fit


def models(folder: Path, noise: Tensor) -> None:
    model = visionseq.load("rf-digits-2rf-pp")
    assert_type(model, PretrainedModel)
    assert_type(model.preprocessing, dict[str, Any])
    model.save_pretrained(folder, card="# A model")
    assert_type(EDMVelocity.from_pretrained(folder), EDMVelocity)
    assert_type(visionseq.list_models("rf-*"), list[str])
    assert_type(zoo.info("rf-digits-edm").parameters, int)
    assert_type(visionseq.pipeline("rf-digits-2rf-pp", device="cpu"), SamplingPipeline)
    viz.save_png(viz.image_grid(noise), folder / "grid.png")


def official(state: dict[str, Tensor]) -> None:
    for room in rooms.room_names():
        for config in convert.preset_configs(room).values():
            model = visionseq.from_official(room, state, config)
            assert_type(visionseq.to_official(room, model), dict[str, Tensor])


def detection(scan: Path) -> None:
    detector = load_detector("lion-mamba-lidarworld")
    assert_type(detector, LionDetector)
    detections = detect_frame(detector, FrameInput.of(read_points(scan), detector)).above(0.3)
    assert_type(detections, Detections)
    assert_type(geometry.iou3d(torch.zeros(2, 7), torch.zeros(3, 7)), Tensor)
    assert_type(geometry.nms(torch.zeros(2, 7), torch.zeros(2), 0.1), Tensor)
    frame = LidarWorld(4).frame(0)
    assert_type(frame, LidarFrame)
    assert_type(frame.points, np.ndarray)
    assert_type(Kitti("datasets/kitti", "train").frame(0), LidarFrame)


def training(folder: Path) -> None:
    data = ImageData(Digits("train"), batch_size=32, eval_dataset=ImageFolder(folder, 8, 1))
    task = TeacherTask({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1}, OptimizerConfig(lr=1e-3))
    assert_type(fit(task, data, max_steps=10), PretrainedModel)
    assert_type(open_pairs(folder), PairDataset)
    assert_type(KittiAP().compute(), dict[str, Tensor])
    assert_type(EDMDenoiser, type[EDMDenoiser])


def kernels(x_BTD: Tensor) -> None:
    states_BTD, last_BD = linear_scan(x_BTD, x_BTD)
    assert_type(states_BTD, Tensor)
    assert_type(last_BD, Tensor)
    assert_type(mixers.Mamba(32), mixers.Mamba)
    assert_type(sample_t(8, 4.0), Tensor)
