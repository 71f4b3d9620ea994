"""`python tools/pairs.py ...` is `visionseq pairs ...`."""

import sys

from visionseq.cli import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("pairs"))
