"""From a function's signature and docstring to a command line."""

from pathlib import Path
from typing import Literal

import pytest

from visionseq.cli.arguments import parse
from visionseq.cli.console import WrongArgument


def draw(
    model: str,
    *,
    out: Path = Path("out"),
    num_samples: int = 64,
    steps: list[int] | None = None,
    names: list[str] | None = None,
    solver: Literal["euler", "heun"] = "euler",
    skip_corrupt: bool = False,
    seed: int | None = None,
    scale: float = 1.0,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    size: tuple[int, int] | None = None,
    kinds: list[Literal["png", "svg"]] | None = None,
) -> None:
    """Draw images.

    Longer text.

    Args:
        model: Name or folder.
        num_samples: How many images.

    Examples:
        visionseq draw rf-digits-2rf-pp --steps 1 2 5
    """


def arguments(line: str) -> dict:
    return parse(draw, "visionseq draw", line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m", {"model": "m", "num_samples": 64, "steps": None, "seed": None}),
        ("--model m", {"model": "m"}),
        ("--model=m --num-samples 3", {"model": "m", "num_samples": 3}),
        ("m --num_samples=3", {"num_samples": 3}),
        ("--num-samples 3 m", {"model": "m", "num_samples": 3}),
        ("m --out a-b/c_d", {"out": Path("a-b/c_d")}),
        ("m --steps 1 2 5", {"steps": [1, 2, 5]}),
        ("m --steps 1,2,5", {"steps": [1, 2, 5]}),
        ("m --steps [1,2]", {"steps": [1, 2]}),
        ("m --steps=4", {"steps": [4]}),
        ("m --names a 1 b-c", {"names": ["a", "1", "b-c"]}),
        ("m --solver heun", {"solver": "heun"}),
        ("m --skip-corrupt", {"skip_corrupt": True}),
        ("m --no-skip-corrupt", {"skip_corrupt": False}),
        ("m --skip-corrupt=true", {"skip_corrupt": True}),
        ("m --seed -1 --scale 1e-3", {"seed": -1, "scale": 1e-3}),
        ("m --seed null", {"seed": None}),
        ("m --shift 0 0 0.5", {"shift": (0, 0, 0.5), "size": None}),
        ("m --shift 0,0,0.5", {"shift": (0, 0, 0.5)}),
        ("m --shift [0,0,0.5]", {"shift": (0, 0, 0.5)}),
        ("m --shift=-1,0,0.5", {"shift": (-1, 0, 0.5)}),
        ("m --shift -1 -2.5 1e-3 --seed 1", {"shift": (-1, -2.5, 1e-3), "seed": 1}),
        ("--shift 0 0 0.5 m", {"model": "m", "shift": (0, 0, 0.5)}),
        ("--size 1242,375 m", {"model": "m", "size": (1242, 375)}),
        ("m --kinds png,svg", {"kinds": ["png", "svg"]}),
    ],
)
def test_arguments_are_understood(line, expected):
    found = arguments(line)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "missing model"),
        ("m --num-samples three", "--num-samples expects int, found 'three'"),
        ("m --sampler heun", "unknown argument --sampler"),
        ("m --num-sample 3", "unknown argument --num-sample, did you mean --num-samples?"),
        ("m --solver rk4", "--solver expects one of euler, heun, found 'rk4'"),
        ("m --steps x", "--steps expects list[int], found 'x'"),
        ("m --kinds png gif", "--kinds expects one of png, svg, found 'png, gif'"),
        ("m --shift 0 0", "--shift expects 3 numbers (float), found '0, 0'"),
        ("m --shift", "--shift expects 3 numbers (float), found ''"),
        ("m --shift=1 2 3", "--shift expects 3 numbers (float), found '1'"),
        ("m --size 1242 3.5", "--size expects 2 numbers (int), found '1242, 3.5'"),
        ("m extra", "unknown argument extra"),
        ("m --seed", "--seed: expected one argument"),
    ],
)
def test_wrong_arguments_are_one_line(line, message):
    with pytest.raises(WrongArgument) as failure:
        arguments(line)
    text = str(failure.value)
    assert text.startswith("draw: ")
    assert message in text
    assert text.endswith("; see visionseq draw --help")
    assert "\n" not in text


def test_words_without_dashes_fill_the_parameters_before_the_star():
    def show(files: list[Path], *, out: Path = Path("out")) -> None:
        """Show."""

    def convert(room: str, source: Path, out: Path = Path("out"), *, reverse: bool = False) -> None:
        """Convert."""

    assert parse(show, "visionseq show", ["a", "b", "--out", "c"]) == {
        "files": [Path("a"), Path("b")],
        "out": Path("c"),
    }
    assert parse(convert, "x c", ["r", "--reverse", "s"])["source"] == Path("s")
    assert parse(convert, "x c", ["r", "s", "o"])["out"] == Path("o")
    assert parse(convert, "x c", ["s", "--room", "r"])["source"] == Path("s")
    with pytest.raises(WrongArgument, match="missing source"):
        parse(convert, "x c", ["r"])


def test_required_option_is_named_with_its_dashes():
    def train(*, data_folder: Path) -> None:
        """Train."""

    with pytest.raises(WrongArgument, match="train: missing --data-folder"):
        parse(train, "visionseq train", [])


def test_help_shows_description_arguments_and_examples(capsys):
    assert parse(draw, "visionseq draw", ["--help"]) is None
    text = capsys.readouterr().out
    for part in (
        "usage: visionseq draw",
        "Draw images.",
        "Longer text.",
        "--num-samples",
        "How many images.",
        "default: 64",
    ):
        assert part in text
    assert "examples:\n    visionseq draw rf-digits-2rf-pp --steps 1 2 5" in text
    assert "_samples" not in text.replace("NUM_SAMPLES", "")
    assert "--shift N N N" in text
    assert "--size N N" in text


def test_restricted_numbers_are_named_in_words():
    from jsonargparse.typing import PositiveInt

    def run(*, steps: PositiveInt = 1) -> None:
        """Run."""

    with pytest.raises(WrongArgument, match="--steps expects positive int, found '0'"):
        parse(run, "visionseq run", ["--steps", "0"])
