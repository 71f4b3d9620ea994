"""Every command line in the README, the docs and the docstrings is one that the commands accept."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from visionseq.cli.binding import bind
from visionseq.cli.console import COMMANDS, TRAINER_VERBS

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*/README.md")]
PAGES += [*ROOT.glob("visionseq/*/README.md"), *ROOT.glob("model_zoo/*/README.md")]
SOURCES = [*ROOT.glob("visionseq/cli/*.py")]
LINE = re.compile(r"^[ ]*(?:[A-Z_]+=\S+ )?(visionseq|python (?:tools|datasets)/\S+)[ ](.*)$", re.MULTILINE)


def examples() -> list[tuple[str, str, str]]:
    """(file, program, words) of every command line; the trainer's verbs are LightningCLI's."""
    lines = []
    for page in (*PAGES, *SOURCES):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for program, words in LINE.findall(text):
            if words.split()[0].strip("`:,") in COMMANDS or program != "visionseq":
                lines.append((str(page.relative_to(ROOT)), program, words.partition(" # ")[0]))
    return [line for line in lines if not _is_trainers(line[1], line[2])]


def _is_trainers(program: str, words: str) -> bool:
    return words.split()[0] in TRAINER_VERBS or program.endswith(("train.py", "test.py"))


def command_of(program: str, words: list[str]):
    """The function of a command line, and the words after the command."""
    if program.startswith("python datasets/"):
        path = ROOT / program.removeprefix("python ")
        spec = importlib.util.spec_from_file_location(f"prepare_{path.parent.name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.prepare, words
    command, *words = words if program == "visionseq" else [Path(program).stem, *words]
    module = importlib.import_module(f"visionseq.cli.{command}")
    if hasattr(module, "COMMANDS"):
        return module.COMMANDS[words[0]], words[1:]
    return getattr(module, command), words


def test_there_are_examples_of_every_command():
    shown = {words.split()[0] for _, program, words in examples() if program == "visionseq"}
    assert shown >= set(COMMANDS) - set(TRAINER_VERBS)


@pytest.mark.parametrize(("page", "program", "line"), sorted(set(examples())), ids=lambda text: text[:60])
def test_an_example_is_accepted(page, program, line):
    words = shlex.split(line)
    if "..." in words or words[0].startswith("<"):
        return  # prose that speaks of a command
    function, words = command_of(program, words)
    bind(function, page, words)
