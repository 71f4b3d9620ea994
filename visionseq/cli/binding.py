"""From the words of a command line to the arguments of a function; cyclopts reads them by the function's signature.

Parameters before `*` take the words without dashes, in order; every parameter is also an option. A bool is a flag
(`--flag`, `--no-flag`, `--flag=true`). A list or a tuple takes all words up to the next option, separated by spaces or
by commas.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

import cyclopts

from visionseq.cli.option_types import AtLeast, option, without_none
from visionseq.cli.wrong_argument import WrongArgument


def bind(function: Callable[..., object], prog: str, argv: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments of `function` that `argv` names; `prog` is the command in messages.

    Raises `WrongArgument` with one line for an argument that is unknown, missing, repeated or of another type.
    """
    app = cyclopts.App(help_flags=[], version_flags=[], print_error=False, exit_on_error=False, verbose=False)
    app.default(_declaration(function))
    try:
        _, bound, _ = app.parse_args(list(argv))
    except cyclopts.UnusedCliTokensError as error:
        words = " ".join(error.unused_tokens or [])
        raise WrongArgument(
            f"{prog}: {words!r} belongs to no option; a flag takes no word, or one after `=`: --flag, --no-flag, "
            f"--flag=true. See {prog} --help."
        ) from error
    except cyclopts.CycloptsError as error:
        raise WrongArgument(f"{prog}: {error} See {prog} --help.") from error
    for name, value in bound.arguments.items():
        _check_limits(name, value, inspect.signature(function, eval_str=True).parameters[name].annotation, prog)
    return dict(bound.arguments)


def _declaration(function: Callable[..., object]) -> Callable[..., object]:
    """A function of the same signature whose lists and tuples are read by `_split`."""

    def declaration(*_: object, **__: object) -> None: ...

    signature = inspect.signature(function, eval_str=True)
    parameters = [value.replace(annotation=_with_habits(value.annotation)) for value in signature.parameters.values()]
    declaration.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    declaration.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return declaration


def _with_habits(annotation: Any) -> Any:
    plain = without_none(annotation)
    if plain is bool:
        return annotation
    if get_origin(plain) not in (list, tuple):
        return Annotated[annotation, cyclopts.Parameter(converter=_read)]
    several = cyclopts.Parameter(converter=_read, n_tokens=-1, consume_multiple=(1, None), negative=())
    return Annotated[annotation, several]


def _read(annotation: Any, tokens: Sequence[cyclopts.Token]) -> Any:
    """The value of an option from its words; those of a list or a tuple are divided at commas."""
    plain = without_none(annotation)
    elements = get_args(plain)
    if get_origin(plain) not in (list, tuple):
        _refuse_fractions([plain], tokens)
        return cyclopts.convert(annotation, tokens)
    words = [(token, word) for token in tokens for word in token.value.split(",") if word]
    items = [
        cyclopts.Token(keyword=token.keyword, value=word, source=token.source, index=index)
        for index, (token, word) in enumerate(words)
    ]
    if get_origin(plain) is tuple and len(items) != len(elements):
        message = f"expected {len(elements)} values, found {len(items)}."
        raise cyclopts.CoercionError(msg=message, token=tokens[0])
    _refuse_fractions(elements, items)
    return cyclopts.convert(annotation, items)


def _refuse_fractions(elements: Sequence[Any], tokens: Sequence[cyclopts.Token]) -> None:
    """cyclopts rounds 3.5 where an int is expected; here it is an error."""
    if all(int in (element, *get_args(element)) for element in elements):
        for token in tokens:
            if "." in token.value:
                raise cyclopts.CoercionError(token=token, target_type=int)


def _check_limits(name: str, value: Any, annotation: Any, prog: str) -> None:
    values = value if isinstance(value, list | tuple) else [value]
    for limit in _limits(annotation):
        for number in values:
            if number is not None and number < limit.minimum:
                raise WrongArgument(f"{prog}: {option(name)} {number}, expected at least {limit.minimum}")


def _limits(annotation: Any) -> Iterator[AtLeast]:
    """The limits anywhere inside an annotation."""
    if get_origin(annotation) is Annotated:
        yield from (extra for extra in annotation.__metadata__ if isinstance(extra, AtLeast))
    for part in get_args(annotation):
        yield from _limits(part)
