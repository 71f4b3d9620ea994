"""A parser from a function's signature and docstring (jsonargparse), with the habits of the shell.

Parameters before `*` without a default are positional (their `--name` works too), the others are options; `--some-name`
and `--some_name` are the same; a bool is a flag (`--flag`, `--no-flag`); a list takes `1 2 5`, `1,2,5` or `[1,2,5]`.
"""

import inspect
import json
import re
import types
import typing
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from visionseq.cli.console import WrongArgument

_SECTION = re.compile(r"^(Args|Returns|Raises|Examples?):[ ]*$", re.MULTILINE)


def parse(function: Callable[..., object], prog: str, argv: list[str]) -> dict[str, Any] | None:
    """The keyword arguments that `argv` gives `function`, or None after showing `--help`.

    Raises `WrongArgument` with one line for what does not fit.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    argv = list(_normalised(argv, parameters))
    given = {word.removeprefix("--").partition("=")[0] for word in argv if word.startswith("--")}
    positional = [name for name, parameter in parameters.items() if _is_positional(parameter) and name not in given]
    parser = _parser(function, prog, positional, list(parameters))
    if {"-h", "--help"} & set(argv):
        print(_with_dashes(parser.format_help()))
        return None
    try:
        return vars(parser.parse_args(argv))
    except ArgumentError as error:
        raise WrongArgument(
            f"{prog.partition(' ')[2]}: {_one_line(str(error), parameters)}; see {prog} --help"
        ) from error


def _parser(function: Callable[..., object], prog: str, positional: list[str], names: list[str]) -> ArgumentParser:
    description, examples = _documentation(function)
    parser = ArgumentParser(
        prog=prog,
        description=description,
        epilog=examples,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    for as_positional, skipped in ((True, set(names) - set(positional)), (False, set(positional))):
        parser.add_function_arguments(function, as_group=False, as_positional=as_positional, skip=skipped)
    return parser


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Types and defaults beside each argument; description and examples keep their line breaks."""


def _documentation(function: Callable[..., object]) -> tuple[str, str]:
    """Description and examples of a Google-style docstring."""
    first, *sections = _SECTION.split(inspect.getdoc(function) or "")
    bodies = dict(zip(sections[::2], sections[1::2], strict=True))
    examples = bodies.get("Examples", bodies.get("Example", ""))
    return first.strip(), "examples:" + examples.rstrip() if examples.strip() else ""


def _normalised(argv: list[str], parameters: typing.Mapping[str, inspect.Parameter]) -> Iterable[str]:
    """Yield the words that jsonargparse understands: underscores, `--flag=true`, `--list=[...]`."""
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            yield word
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        annotation = _plain(parameters[name].annotation) if name in parameters else None
        if annotation is bool and not equals:
            yield f"--{name}=true"
        elif name.startswith("no_") and name[3:] in parameters and not equals:
            yield f"--{name[3:]}=false"
        elif typing.get_origin(annotation) is list:
            values = [value] if equals else _take_values(words)
            yield f"--{name}={_list_literal(values, annotation)}"
        else:
            yield f"--{name}{equals}{value}"


def _take_values(words: list[str]) -> list[str]:
    count = next((i for i, word in enumerate(words) if word.startswith("--") or word == "-h"), len(words))
    values = words[:count]
    del words[:count]
    return values


def _list_literal(values: list[str], annotation: Any) -> str:
    if len(values) == 1 and values[0].startswith("["):
        return values[0]
    items = [item.strip() for value in values for item in value.split(",")]
    (element,) = typing.get_args(annotation) or (str,)
    return f"[{', '.join(items)}]" if element in (int, float) else json.dumps(items)


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _one_line(message: str, parameters: typing.Mapping[str, inspect.Parameter]) -> str:
    """The parser's message in one line: argument, what was found, what was expected."""
    if match := re.search(r"unrecognized arguments: (.*)", message, re.DOTALL):
        word = match[1].split()[0]
        name = word.lstrip("-").partition("=")[0]
        close = get_close_matches(name, parameters, n=2)
        hint = f", did you mean {' or '.join(map(_option, close))}?" if close else ""
        return f"unknown argument {_with_dashes(word)}{hint}"
    if match := re.search(r"arguments are required: (.*)", message, re.DOTALL):
        names = [name.strip() for name in match[1].split(",")]
        return f"missing {', '.join(name if _is_positional(parameters[name]) else _option(name) for name in names)}"
    key, found = re.search(r'Parser key "(\w+)"', message), re.search(r"(?:Got|Given) value: (.*)", message)
    if key and found and key[1] in parameters:
        return f"{_option(key[1])} expects {_type_name(parameters[key[1]].annotation)}, found {found[1]!r}"
    return _with_dashes(" ".join(message.split()))


def _plain(annotation: Any) -> Any:
    """The annotation without `| None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _type_name(annotation: Any) -> str:
    annotation = _plain(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    return (
        annotation.__name__.lower()
        if isinstance(annotation, type) and not typing.get_args(annotation)
        else str(annotation)
    )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_dashes(text: str) -> str:
    text = re.sub(r", --\w+\+ [^\n]*?(?=\n)", "", text)  # jsonargparse's spelling for appending to a list
    text = re.sub(r"<class '([\w.]+)'>", lambda match: match[1].rpartition(".")[2], text)
    return re.sub(r"--\w+", lambda match: match[0].replace("_", "-"), text)
