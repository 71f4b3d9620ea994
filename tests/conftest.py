"""Settings that all tests share."""

import os

from hypothesis import settings

# Two busy cores make single examples slow by no fault of theirs; CI repeats the same examples in every run.
settings.register_profile("visionseq", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("visionseq")
