"""`python tools/detect.py ...` is `visionseq detect ...`."""

import sys
from pathlib import Path

# This folder has an inspect.py, which must not hide the standard library's.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from visionseq.cli import run_tool  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_tool("detect"))
