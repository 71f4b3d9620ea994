"""The trainer's verbs: `visionseq fit | validate | test | predict` are LightningCLI's."""

import logging
import re
import sys
import warnings
from contextlib import redirect_stderr
from io import StringIO

from visionseq.cli.console import WrongArgument


def main(verb: str, argv: list[str]) -> None:
    """Run one verb; a wrong argument raises `WrongArgument` with one line."""
    from visionseq.training.cli import run_cli

    _quiet()
    complaint = _Tee(sys.stderr)
    try:
        with redirect_stderr(complaint):
            run_cli(verb, argv)
    except SystemExit as exit_:
        if exit_.code == 2:
            raise WrongArgument(f"{verb}: {_one_line(complaint.held.getvalue())}; see visionseq {verb} --help") from None
        if exit_.code:
            raise


class _Tee(StringIO):
    """Standard error, except for the parser's usage and complaint, which are held back and told in one line."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.held = stream, StringIO()

    def write(self, text: str) -> int:
        parsing = text.startswith(("usage:", "error:", "tip:")) or self.held.tell()
        return (self.held if parsing else self.stream).write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def _one_line(complaint: str) -> str:
    text = re.sub(r"\s+", " ", complaint[complaint.find("error:") + len("error:") :]).strip()
    return text[:300] or "wrong arguments"


def _quiet() -> None:
    """Silence what Lightning says about itself; its warnings on a run's own settings stay."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for text in (".*isinstance\\(treespec, LeafSpec\\).*", ".*smaller than the logging interval.*", ".*not resumable.*",
                 ".*Total length of `list`.*", ".*does not have many workers.*", ".*litlogger.*"):
        warnings.filterwarnings("ignore", text)
