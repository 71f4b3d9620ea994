"""A parser from a function's signature and docstring (jsonargparse), with the habits of the shell.

Words without dashes go to the parameters before `*`, in order; every parameter is also an option. `--some-name` and
`--some_name` are the same; a bool is a flag (`--flag`, `--no-flag`); a list or a tuple takes `1 2 5`, `1,2,5` or
`[1,2,5]`.
"""

import inspect
import json
import re
import types
import typing
from argparse import Action, ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
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
    if {"-h", "--help"} & set(argv):
        print(_with_dashes(_parser(function, prog, as_positional=True).format_help()))
        return None
    words: list[str] = []
    try:
        words += _normalised(argv, parameters)
        return vars(_parser(function, prog, as_positional=False).parse_args(words))
    except ArgumentError as error:
        reason = _one_line(str(error), parameters, words)
        raise WrongArgument(f"{prog.partition(' ')[2]}: {reason}; see {prog} --help") from error


def _parser(function: Callable[..., object], prog: str, as_positional: bool) -> ArgumentParser:
    description, examples = _documentation(function)
    parser = ArgumentParser(
        prog=prog,
        description=description,
        epilog=examples,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    options = {
        name for name, parameter in inspect.signature(function).parameters.items() if not _is_positional(parameter)
    }
    required = set(inspect.signature(function).parameters) - options
    for positional, skipped in ((as_positional, options), (False, required)):
        parser.add_function_arguments(function, as_group=False, as_positional=positional, skip=skipped)
    return parser


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Types and defaults beside each argument; description and examples keep their line breaks."""

    def _format_args(self, action: Action, default_metavar: str) -> str:
        annotation = _plain(getattr(action, "_typehint", None))
        if typing.get_origin(annotation) is tuple:
            return " ".join("N" for _ in typing.get_args(annotation))
        return super()._format_args(action, default_metavar)


def _documentation(function: Callable[..., object]) -> tuple[str, str]:
    """Description and examples of a Google-style docstring."""
    first, *sections = _SECTION.split(inspect.getdoc(function) or "")
    bodies = dict(zip(sections[::2], sections[1::2], strict=True))
    examples = bodies.get("Examples", bodies.get("Example", ""))
    return first.strip(), "examples:" + examples.rstrip() if examples.strip() else ""


def _normalised(argv: list[str], parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The words as jsonargparse takes them: `--name=value` throughout."""
    words, named, bare = list(argv), [], []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            bare.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name not in parameters and name.removeprefix("no_") not in parameters:
            raise ArgumentError(None, f"unrecognized arguments: {word}")
        annotation = _plain(parameters[name].annotation) if name in parameters else None
        if annotation is bool and not equals:
            named.append(f"--{name}=true")
        elif annotation is None:
            named.append(f"--{name.removeprefix('no_')}=false")
        elif typing.get_origin(annotation) in (list, tuple):
            values = [value] if equals else _take_values(words, annotation)
            named.append(f"--{name}={_list_literal(values, annotation)}")
        elif not equals and words and not words[0].startswith("--"):
            named.append(f"--{name}={words.pop(0)}")
        else:
            named.append(f"--{name}{equals}{value}")
    return _bare_words(bare, {word[2:].partition("=")[0] for word in named}, parameters) + named


def _bare_words(words: list[str], given: set[str], parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Give the words without dashes to the parameters before `*` that are not given by name; a list takes the rest."""
    named = []
    for name, parameter in parameters.items():
        if not words or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            break
        if name in given:
            continue
        annotation = _plain(parameter.annotation)
        if typing.get_origin(annotation) is list:
            named.append(f"--{name}={_list_literal(words, annotation)}")
            words = []
        else:
            named.append(f"--{name}={words[0]}")
            words = words[1:]
    return named + words


def _take_values(words: list[str], annotation: Any) -> list[str]:
    """Remove and return the words up to the next option; for a tuple, no more than fill it."""
    most = len(typing.get_args(annotation)) if typing.get_origin(annotation) is tuple else len(words)
    values: list[str] = []
    while words and not words[0].startswith("--") and len(_items(values)) < most:
        values.append(words.pop(0))
    return values


def _items(values: list[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",")]


def _list_literal(values: list[str], annotation: Any) -> str:
    if len(values) == 1 and values[0].startswith("["):
        return values[0]
    items, elements = _items(values), typing.get_args(annotation) or (str,)
    numbers = all(isinstance(element, type) and issubclass(element, int | float) for element in elements)
    return f"[{', '.join(items)}]" if numbers else json.dumps(items)


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _one_line(message: str, parameters: Mapping[str, inspect.Parameter], words: list[str]) -> str:
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
    key = re.search(r'Parser key "(\w+)"', message)
    if key and key[1] in parameters:
        annotation = parameters[key[1]].annotation
        found = next((word.partition("=")[2] for word in words if word.startswith(f"--{key[1]}=")), "")
        if typing.get_origin(_plain(annotation)) in (list, tuple):
            found = found.strip("[]").replace('"', "")
        return f"{_option(key[1])} expects {_type_name(annotation)}, found {found!r}"
    return _with_dashes(" ".join(message.split()))


def _plain(annotation: Any) -> Any:
    """The annotation without `| None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _type_name(annotation: Any) -> str:
    annotation = _plain(annotation)
    origin, elements = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, elements))}"
    if origin is list and typing.get_origin(elements[0]) is typing.Literal:
        return _type_name(elements[0])
    if origin is tuple:
        return f"{len(elements)} numbers ({_type_name(elements[0])})"
    if not isinstance(annotation, type) or elements:
        return str(annotation)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", annotation.__name__).lower()  # PositiveInt -> positive int


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_dashes(text: str) -> str:
    text = re.sub(r", --\w+\+ [^\n]*?(?=\n)", "", text)  # jsonargparse's spelling for appending to a list
    text = re.sub(r"<class '([\w.]+)'>", lambda match: match[1].rpartition(".")[2], text)
    return re.sub(r"--\w+", lambda match: match[0].replace("_", "-"), text)
