"""Improved rectified flows (2-rectified flow++, arXiv 2405.20320): teachers, pairs, students, few-step samplers."""

from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.pairs import ReflowPairs
from visionseq.rectified_flow.sampling import sample
from visionseq.rectified_flow.task import RectifiedFlowTask, ReflowTask, TeacherTask
from visionseq.rectified_flow.teacher import edm_sample

__all__ = [
    "EDMDenoiser",
    "EDMVelocity",
    "RectifiedFlowTask",
    "ReflowPairs",
    "ReflowTask",
    "TeacherTask",
    "build_network",
    "edm_sample",
    "sample",
]
