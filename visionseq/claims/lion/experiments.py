"""Three mechanisms of LION on procedural voxels (arXiv 2407.18232): what each one does when it is taken away.

    beacon      one voxel of a scene carries a class, which all voxels shall predict: accuracy by the length of groups
    counting    a voxel counts its occupied neighbours, with the 3D descriptor and with the identity in its place
    interiors   share of the objects whose centre, seen from above, is occupied at the backbone's output

The operator is a scan with learned decays in both directions, small enough for a CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.data.seeding import generator_for
from visionseq.kernels import linear_scan
from visionseq.lion.backbone import LION3DBackboneOneStride
from visionseq.lion.block import LIONBlock
from visionseq.lion.layer import LIONLayer
from visionseq.lion.merge import Merged, PatchMerging3D
from visionseq.lion.vfe import DynamicVoxelVFE
from visionseq.nn.sparse import SparseTensor

WIDTH, CLASSES = 24, 4
BEACON_GRID, BEACON_VOXELS = (4, 32, 32), 256
COUNT_GRID = (8, 24, 24)
SCENE, CELL, HEIGHT, GROUND = 12.8, 0.8, (-2.0, 2.0), -1.73  # metres


@dataclass(frozen=True)
class Recipe:
    """The settings that are equal for all variants."""

    seeds: tuple[int, ...] = (0, 1, 2)
    groups: tuple[int, ...] = (8, 32, 128, 256)
    steps: int = 200
    lr: float = 3e-3
    held_out: int = 40
    scenes: int = 40


class DecayScan(nn.Module):
    """x + LayerNorm(W_o(scan(W_i x) * silu(W_g x))), the scan being a decaying sum from both sides."""

    def __init__(self, d_model: int, layer_id: int = 0, n_layer: int = 1):
        super().__init__()
        self.inputs, self.gate, self.outputs = (nn.Linear(d_model, d_model) for _ in range(3))
        self.decay = nn.Parameter(torch.linspace(0, 6, d_model))
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x_GLD: Tensor) -> Tensor:
        values, decay = self.inputs(x_GLD), self.decay.sigmoid().expand_as(x_GLD)
        ahead, back = (linear_scan(decay, values, reverse=reverse)[0] for reverse in (False, True))
        return x_GLD + self.norm(self.outputs((ahead + back) * F.silu(self.gate(x_GLD))))


class Beacon(nn.Module):
    """Features -> one LION layer with groups of `group` voxels -> a class for every voxel."""

    def __init__(self, group: int):
        super().__init__()
        self.embed = nn.Linear(CLASSES, WIDTH, bias=False)
        self.layer = LIONLayer(WIDTH, DecayScan, (13, 13, 4), group, shift=False)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: SparseTensor) -> Tensor:
        return self.head(self.norm(self.layer(x.with_features(self.embed(x.features))).features))


class Counting(nn.Module):
    """A constant -> one LION block -> a merge without merging -> a number; with or without descriptors."""

    def __init__(self, descriptor: bool):
        super().__init__()
        self.embed = nn.Linear(1, WIDTH)
        self.block = LIONBlock(WIDTH, DecayScan, 2, [(2, 2, 2)] * 2, (13, 13, 8), 64)
        self.last = PatchMerging3D(WIDTH, (1, 1, 1))
        self.head = nn.Linear(WIDTH, 1)
        if not descriptor:
            for merge in (*self.block.downsample_list, self.last):
                merge.describe = lambda x: x.features

    def forward(self, x: SparseTensor) -> Tensor:
        merged: Merged = self.last(self.block(x.with_features(self.embed(x.features))))
        return self.head(merged.tensor.features)[merged.coarse][:, 0]


def beacon_accuracy(group: int, recipe: Recipe, seed: int) -> float:
    """Share of the voxels of held-out scenes whose prediction is the beacon's class."""
    torch.manual_seed(seed)
    model = Beacon(group)
    _train(model, recipe, lambda step: _beacons(4, seed, 0, step), F.cross_entropy)
    x, classes = _beacons(recipe.held_out, seed, 1, 0)
    with torch.no_grad():
        return (model.eval()(x).argmax(1) == classes).double().mean().item()


def counting_r2(descriptor: bool, recipe: Recipe, seed: int) -> float:
    """Share of the variance of the neighbours' number that is explained on held-out scenes."""
    torch.manual_seed(seed)
    model = Counting(descriptor)
    _train(model, recipe, lambda step: _crowds(2, seed, 0, step), F.smooth_l1_loss)
    x, neighbours = _crowds(20, seed, 1, 0)
    with torch.no_grad():
        error = (model.eval()(x) - neighbours).square().mean()
    return 1 - (error / neighbours.var(unbiased=False)).item()


def interiors(diffusion: bool, recipe: Recipe, seed: int) -> dict[str, float]:
    """Class -> share of the objects whose central cell the output occupies; "cells" -> occupied cells of a scene."""
    # An untrained network and simulated scenes.
    torch.manual_seed(seed)
    limits = [-SCENE, -SCENE, HEIGHT[0], SCENE, SCENE, HEIGHT[1]]
    vfe = DynamicVoxelVFE(4, [16, 16], [CELL, CELL, (HEIGHT[1] - HEIGHT[0]) / 32], limits).eval()
    backbone = LION3DBackboneOneStride(16, DecayScan, group_size=(256, 128, 64, 64), diffusion=diffusion).eval()
    world = LidarWorld(recipe.scenes, seed, LidarSensor(beams=32, columns=720))

    # Which cells the output occupies, and whether the cell below each object's centre is one of them.
    hits: dict[str, list[bool]] = {}
    cells = []
    for index in range(recipe.scenes):
        frame = world.frame(index)
        assert frame.boxes is not None  # the simulated world labels every frame
        assert frame.names is not None
        standing = frame.points[frame.points[:, 2] > GROUND + 0.1]  # the ground would fill every cell
        points = torch.from_numpy(np.column_stack([np.zeros(len(standing), np.float32), standing]))
        with torch.no_grad():
            occupied = backbone(vfe(points, 1)).dense().abs().sum((1, 2))[0] > 0
        cells.append(int(occupied.sum()))
        for box, name in zip(frame.boxes, frame.names.tolist(), strict=True):
            place = np.floor((box[:2] + SCENE) / CELL).astype(int)
            if (place >= 0).all() and (place < occupied.shape[0]).all():
                hits.setdefault(name, []).append(bool(occupied[place[1], place[0]]))
    return {**{name: float(np.mean(values)) for name, values in hits.items()}, "cells": float(np.mean(cells))}


def _train(model: nn.Module, recipe: Recipe, draw: Callable[[int], tuple], loss: Callable[..., Tensor]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr)
    for step in range(recipe.steps):
        x, target = draw(step)
        optimizer.zero_grad()
        loss(model(x), target).backward()
        optimizer.step()


def _beacons(samples: int, *keys: int) -> tuple[SparseTensor, Tensor]:
    """Scenes of random voxels, one of which has a class as its feature, and that class [V] for every voxel."""
    random = generator_for(*keys)
    depth, height, width = BEACON_GRID
    indices, features, classes = [], [], []
    for sample in range(samples):
        # The voxels of a scene.
        place = torch.randperm(depth * height * width, generator=random)[:BEACON_VOXELS]
        z, rest = place.div(height * width, rounding_mode="floor"), place % (height * width)
        columns = [torch.full_like(z, sample), z, rest.div(width, rounding_mode="floor"), rest % width]

        # The beacon, and its class for all.
        label = int(torch.randint(CLASSES, (), generator=random))
        signal = torch.zeros(BEACON_VOXELS, CLASSES)
        signal[int(torch.randint(BEACON_VOXELS, (), generator=random)), label] = 8.0
        indices.append(torch.stack(columns, 1))
        features.append(signal)
        classes.append(torch.full((BEACON_VOXELS,), label))
    x = SparseTensor(torch.cat(features), torch.cat(indices), BEACON_GRID, samples)
    return x, torch.cat(classes)


def _crowds(samples: int, *keys: int) -> tuple[SparseTensor, Tensor]:
    """Grids whose occupancy differs from block to block, and the number [V] of occupied neighbours of each voxel."""
    random = generator_for(*keys)
    share = torch.rand((samples, 2, 6, 6), generator=random) * 0.5
    share = share.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    occupied = torch.rand((samples, *COUNT_GRID), generator=random) < share
    around = F.conv3d(occupied.float()[:, None], torch.ones(1, 1, 3, 3, 3), padding=1)[:, 0] - 1
    indices = occupied.nonzero()
    return SparseTensor(torch.ones(len(indices), 1), indices, COUNT_GRID, samples), around[occupied]
