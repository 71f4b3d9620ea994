"""Which versions of diffusers the integration was tested with."""

import logging
from functools import lru_cache

TESTED = ("0.42",)

log = logging.getLogger("visionseq.integrations.diffusers")


@lru_cache
def warn_of_untested_version() -> None:
    """Say once where the installed version is none of the tested ones."""
    import diffusers

    release = ".".join(diffusers.__version__.split(".")[:2])
    if release not in TESTED:
        log.warning(
            "diffusers %s is installed, tested with %s: compare a picture before you rely on it",
            diffusers.__version__,
            ", ".join(TESTED),
        )
