"""`python tools/claims.py ...` is `visionseq claims ...`."""

import sys

from visionseq.cli import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("claims"))
