"""The trainer's verbs: `visionseq fit | validate | test | predict` are LightningCLI's."""

from argparse import ArgumentError

from visionseq.cli.wrong_argument import WrongArgument
from visionseq.errors import import_extra

_LONGEST = 400  # characters of the parser's complaint: it repeats the types of a whole configuration


def main(verb: str, argv: list[str]) -> None:
    """Run one verb; a wrong argument raises `WrongArgument` with one line, Ctrl-C KeyboardInterrupt."""
    import_extra("lightning", "train")
    from visionseq.training.cli import run_cli

    try:
        run_cli(verb, argv)
    except ArgumentError as error:
        complaint = " ".join(str(error).split())[:_LONGEST]
        raise WrongArgument(f"visionseq {verb}: {complaint} See visionseq {verb} --help.") from error
