"""Settings and modules that all tests share."""

import os
import signal
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# Two busy cores make single examples slow by no fault of theirs; CI repeats the same examples in every run.
settings.register_profile("visionseq", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("visionseq")

# A shell starts a background job with signals ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
