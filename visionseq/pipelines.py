"""`visionseq.pipeline("name")`: a model of the zoo, of a folder or of the Hub, ready to be called for images."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from visionseq.zoo.loading import load

if TYPE_CHECKING:
    import torch

    from visionseq.flow.pipeline import SamplingPipeline


def pipeline(
    name_or_path: str | os.PathLike,
    *,
    device: "str | torch.device | None" = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> "SamplingPipeline":
    """Load a generative model as `visionseq.load` does and wrap it in a `SamplingPipeline`, on `device` if given."""
    from visionseq.flow.pipeline import SamplingPipeline

    model = load(
        name_or_path,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        force_download=force_download,
        local_files_only=local_files_only,
    )
    return SamplingPipeline(model.to(device))
