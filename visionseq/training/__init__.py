"""Training on Lightning: runs that resume to the bit, averaged weights, checkpoints that are always complete."""

from visionseq.training.check_finite import CheckFinite
from visionseq.training.checkpoint import Checkpoints
from visionseq.training.checkpoint_io import AtomicCheckpointIO
from visionseq.training.ema import EMA, Average
from visionseq.training.loss_scale import DynamicLossScale, LossScale
from visionseq.training.metrics_file import MetricsFile
from visionseq.training.pictures import Pictures
from visionseq.training.runner import fit
from visionseq.training.seeding import StepSeed

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "Average",
    "CheckFinite",
    "Checkpoints",
    "DynamicLossScale",
    "LossScale",
    "MetricsFile",
    "Pictures",
    "StepSeed",
    "fit",
]
