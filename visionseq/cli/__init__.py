"""The console command `visionseq`; each subcommand is a module here, imported when it is called."""

import os
import sys
from collections.abc import Callable


def main(argv: list[str] | None = None) -> int:
    """Run `visionseq <command> ...` and return its exit code."""
    # Read when torch loads its OpenMP, whose threads otherwise spin for a millisecond on the cores of the kernels.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from visionseq.cli.console import run
    from visionseq.places import adopt_home

    adopt_home()
    return run(sys.argv[1:] if argv is None else argv)


def run_tool(command: str) -> int:
    """Run a command as its script in tools/: `python tools/sample.py ...` is `visionseq sample ...`.

    Python puts a script's folder on sys.path, where tools/inspect.py and tools/test.py would hide the modules of those
    names. The folder is removed here, and this file imports nothing before that needs them.
    """
    folder = os.path.dirname(os.path.realpath(sys.argv[0]))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for worker processes
    return main([command, *sys.argv[1:]])


def run_script(function: Callable[..., object]) -> int:
    """Run a function on the words after a script's name, as datasets/*/prepare.py do; returns the exit code."""
    from visionseq.cli.console import run_function
    from visionseq.places import adopt_home

    adopt_home()
    return run_function(function, f"python {sys.argv[0]}", sys.argv[1:])
