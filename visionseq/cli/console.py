"""The dispatcher of `visionseq <command>`: finds the command, runs it, turns errors into messages and exit codes.

Exit codes: 0 done, 1 an error (its message on stderr; `--debug` shows the traceback), 2 a wrong argument (one line),
130 interrupted. Only the module of the command that runs is imported, and cyclopts only where a command runs.
"""

import importlib
import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from visionseq import __version__
from visionseq.cli.terminal import EscapedLines, complain, say
from visionseq.cli.wrong_argument import WrongArgument
from visionseq.errors import VisionseqError

COMMANDS = {
    "fit": "train a model from a YAML file, or resume a run",
    "validate": "measure a checkpoint on the validation data",
    "test": "measure a checkpoint on the test data",
    "predict": "write a checkpoint's predictions to files",
    "detect": "find objects in point clouds from files",
    "sample": "draw images from a model: a grid and an npz",
    "score": "measure how near generated images are to real ones",
    "pairs": "generate the (noise, image) pairs of a teacher",
    "convert": "turn official checkpoints into model folders, and back",
    "zoo": "list, download, verify and publish models",
    "inspect": "show the contents of a data set: counts, ranges, a picture",
    "demo": "train a flow on digits and draw its images, in four minutes",
    "claims": "test a paper's headline claim on this machine",
    "benchmark": "measure speed against named peers",
    "doctor": "show versions, devices, backends, missing extras and caches",
}
HELP = ("-h", "--help")
TRAINER_VERBS = ("fit", "validate", "test", "predict")


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    return exit_code(_dispatch, argv)


def run_function(function: Callable[..., object], prog: str, argv: list[str]) -> int:
    """Run one function on a command line, print its result, and return the exit code."""
    return exit_code(lambda words: _call(function, prog, words), argv)


def exit_code(action: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run `action` on the words without `--debug`; errors become one message on stderr and an exit code."""
    debug = "--debug" in argv
    if logging.lastResort is not None:  # the handler of the library's warnings where no other is set
        logging.lastResort.setFormatter(EscapedLines())
    try:
        return action([word for word in argv if word != "--debug"])
    except WrongArgument as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has ended, as with `| head`
        return 141
    except (VisionseqError, OSError) as error:
        if debug:
            raise
        return _fail(f"{type(error).__name__}: {_sentence(error)}", 1)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _dispatch(argv: list[str]) -> int:
    command, *rest = argv or ["--help"]
    if command in (*HELP, "help"):
        return _show(_overview())
    if command == "--version":
        return _show(f"visionseq {__version__}")
    if command not in COMMANDS:
        raise WrongArgument(unknown("command", command, COMMANDS))
    if command in TRAINER_VERBS:
        return importlib.import_module("visionseq.cli.train").main(command, rest) or 0
    module = importlib.import_module(f"visionseq.cli.{command}")
    if hasattr(module, "COMMANDS"):
        return _dispatch_verb(command, module.COMMANDS, rest)
    return _call(getattr(module, command), f"visionseq {command}", rest)


def _dispatch_verb(command: str, verbs: Mapping[str, Callable[..., object]], argv: list[str]) -> int:
    verb, *rest = argv or ["--help"]
    if verb in HELP:
        lines = {name: (function.__doc__ or "").partition("\n")[0].rstrip(".") for name, function in verbs.items()}
        return _show(
            f"usage: visionseq {command} <verb> [arguments]\n\n{COMMANDS[command]}\n\n{_table(lines)}\n\n"
            f"`visionseq {command} <verb> --help` explains one of them, with examples."
        )
    if verb not in verbs:
        raise WrongArgument(unknown(f"verb of {command}", verb, verbs))
    return _call(verbs[verb], f"visionseq {command} {verb}", rest)


def _call(function: Callable[..., object], prog: str, argv: list[str]) -> int:
    if set(HELP) & set(argv):
        from visionseq.cli.help_page import help_page

        return _show(help_page(function, prog))
    from visionseq.cli.binding import bind

    result = function(**bind(function, prog, argv))
    return 0 if result is None else _show(str(result))


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    """One line about a name that is not known, with the nearest known ones."""
    close = get_close_matches(name, known, n=3) or list(known)
    return f"visionseq: unknown {kind} {name!r}; did you mean {', '.join(close)}?"


def _overview() -> str:
    return (
        f"visionseq {__version__}: flows, detectors and recurrent vision models on shared scan kernels\n\n"
        f"usage: visionseq <command> [arguments]\n\n{_table(COMMANDS)}\n\n"
        "`visionseq <command> --help` explains a command, with examples. --debug shows the traceback of an error."
    )


def _table(lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in lines.items())


def _show(text: str) -> int:
    say(*text.splitlines())
    return 0


def _fail(message: str, code: int) -> int:
    complain(message)
    return code
