"""What the generative rooms share: distributions of time, guidance and the sampling pipeline."""

import importlib

_HOMES = {
    "sample_t": "visionseq.flow.time",
    "uniform_t": "visionseq.flow.time",
    "logit_normal_t": "visionseq.flow.time",
    "u_shape_pdf": "visionseq.flow.time",
    "u_shape_cdf": "visionseq.flow.time",
    "u_shape_icdf": "visionseq.flow.time",
    "classifier_free": "visionseq.flow.guidance",
    "SamplingPipeline": "visionseq.flow.pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:  # PEP 562: the pipeline reaches up to Pillow and matplotlib only where it is used
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
