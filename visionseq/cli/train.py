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
    """The parser's words without its list of what else it tried."""
    text = re.sub(r"\s+", " ", complaint).strip().rstrip(".")
    key = re.search(r'Parser key "([^"]*)": ', text)
    where = f"{key[1]}: " if key else ""
    if first := re.search(r"Errors: - (.*?)(?: - Expected a <class 'NoneType'>| Given value type: )", text):
        return where + first[1]
    if expected := re.search(r"Expected an? <class '([\w.]+)'>\. Got value: (.*)", text):
        return f"{where}expected {expected[1]}, found {expected[2]!r}"
    return (where + text[key.end() :] if key else text)[:300]
