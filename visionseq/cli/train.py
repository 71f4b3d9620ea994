"""The trainer's verbs: `visionseq fit | validate | test | predict` are LightningCLI's."""

import re
from argparse import ArgumentError

from visionseq.cli.console import WrongArgument
from visionseq.errors import import_extra


def main(verb: str, argv: list[str]) -> None:
    """Run one verb; a wrong argument raises `WrongArgument` with one line, Ctrl-C KeyboardInterrupt."""
    import_extra("lightning", "train")
    from visionseq.training.cli import run_cli

    try:
        run_cli(verb, argv)
    except ArgumentError as error:
        raise WrongArgument(f"{verb}: {_one_line(str(error))}; see visionseq {verb} --help") from error


def _one_line(complaint: str) -> str:
    return re.sub(r"\s+", " ", complaint).strip().rstrip(".")[:400]
