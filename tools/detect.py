"""`python tools/detect.py ...` is `visionseq detect ...`."""

import sys

from visionseq.cli import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("detect"))
