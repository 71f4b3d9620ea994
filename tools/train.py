"""`python tools/train.py fit ...` is `visionseq fit ...`; so are validate, test and predict."""

import sys

from visionseq.cli import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(sys.argv.pop(1) if len(sys.argv) > 1 else "--help"))
