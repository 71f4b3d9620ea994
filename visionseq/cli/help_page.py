"""The page of `visionseq <command> --help`: a function's signature and its docstring, laid out.

cyclopts makes such pages too, but to import it takes longer than a help page may (0.15 s); this file needs the standard
library alone.
"""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from visionseq.cli.option_types import option, without_none

_SECTION = re.compile(r"^(Args|Returns|Raises|Examples?):[ ]*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^    (\w+): ", re.MULTILINE)
_NAMES = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
_COLUMN = 28  # where the texts of the options begin
_WIDEST = 110


def help_page(function: Callable[..., object], prog: str) -> str:
    """Usage, description, arguments, options and examples of a command."""
    description, texts, examples = _documentation(function)
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    positional = [value for value in parameters if _is_positional(value)]
    options = [value for value in parameters if not _is_positional(value)]

    # The usage line: the words without dashes, and the options that cannot be left out.
    required = [_usage(value) for value in parameters if _is_positional(value) or value.default is value.empty]
    usage = " ".join(["usage:", prog, *required, *(["[options]"] if options else [])])

    # One paragraph for each part that the command has.
    parts = [usage, description]
    for title, values in (("arguments", positional), ("options", options)):
        if values:
            rows = [_row(value, texts.get(value.name, "")) for value in values]
            parts.append("\n".join([f"{title}:", *rows]))
    return "\n\n".join([*parts, *([f"examples:\n{examples}"] if examples else [])])


def _documentation(function: Callable[..., object]) -> tuple[str, dict[str, str], str]:
    """Description, text of each argument, and examples of a Google-style docstring."""
    description, *sections = _SECTION.split(inspect.getdoc(function) or "")
    bodies = dict(zip(sections[::2], sections[1::2], strict=True))
    _, *arguments = _ARGUMENT.split(bodies.get("Args", ""))
    texts = {name: " ".join(text.split()) for name, text in zip(arguments[::2], arguments[1::2], strict=True)}
    return description.strip(), texts, bodies.get("Examples", bodies.get("Example", "")).strip("\n")


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _usage(parameter: inspect.Parameter) -> str:
    if not _is_positional(parameter):
        return f"{option(parameter.name)} {_value(parameter.annotation)}"
    word = parameter.name.upper() + " ..." * (get_origin(without_none(parameter.annotation)) is list)
    return word if parameter.default is parameter.empty else f"[{word}]"


def _row(parameter: inspect.Parameter, text: str) -> str:
    """The option with its kind of value, and its text beside it."""
    annotation = _plain(parameter.annotation)
    if _is_positional(parameter):
        head = parameter.name.upper() + f" {_value(annotation)}" * (get_origin(annotation) is Literal)
    elif annotation is bool:
        head = f"{option(parameter.name)}, {option('no_' + parameter.name)}"
    else:
        head = f"{option(parameter.name)} {_value(annotation)}"
    if parameter.default is not parameter.empty and parameter.default is not None and annotation is not bool:
        text = f"{text} (default: {_shown(parameter.default)})"
    width = min(shutil.get_terminal_size((_WIDEST, 0)).columns, _WIDEST) - _COLUMN
    lines = textwrap.wrap(text, max(width, 30), break_on_hyphens=False) or [""]
    first = f"  {head}".ljust(_COLUMN)
    if not first.endswith(" "):
        first = f"{first}\n{' ' * _COLUMN}"
    return (first + f"\n{' ' * _COLUMN}".join(lines)).rstrip()


def _value(annotation: Any) -> str:
    """What the words after an option are: INT, PATH, a|b, several of them."""
    annotation = _plain(annotation)
    origin, elements = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(map(str, elements))
    if origin is list:
        return f"{_value(elements[0])} ..."
    if origin is tuple:
        return " ".join(map(_value, elements))
    return _NAMES.get(annotation, "VALUE")


def _plain(annotation: Any) -> Any:
    """The annotation without `| None` and without `Annotated`."""
    annotation = without_none(annotation)
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
