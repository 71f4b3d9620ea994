"""What the generative rooms share: paths, times, solvers, guidance, the base of their tasks, the sampling pipeline."""

import importlib

_HOMES = {
    "sample_t": "visionseq.flow.time",
    "uniform_t": "visionseq.flow.time",
    "logit_normal_t": "visionseq.flow.time",
    "u_shape_pdf": "visionseq.flow.time",
    "u_shape_cdf": "visionseq.flow.time",
    "u_shape_icdf": "visionseq.flow.time",
    "Linear": "visionseq.flow.paths",
    "GVP": "visionseq.flow.paths",
    "VP": "visionseq.flow.paths",
    "diffusion": "visionseq.flow.sde",
    "euler_maruyama": "visionseq.flow.sde",
    "stochastic_heun": "visionseq.flow.sde",
    "euler": "visionseq.flow.solvers",
    "heun": "visionseq.flow.solvers",
    "midpoint": "visionseq.flow.solvers",
    "integrate": "visionseq.flow.solvers",
    "Trajectory": "visionseq.flow.solvers",
    "ClassifierFree": "visionseq.flow.guidance",
    "guided": "visionseq.flow.guidance",
    "SamplingPipeline": "visionseq.flow.pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:  # PEP 562: the pipeline reaches up to Pillow and matplotlib only where it is used
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
