"""`python tools/inspect.py ...` is `visionseq inspect ...`."""

import sys

from visionseq.cli import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("inspect"))
