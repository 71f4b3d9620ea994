"""From a function's signature and docstring to a command line and its help page."""

from pathlib import Path
from typing import Literal

import pytest

from visionseq.cli.binding import bind
from visionseq.cli.console import WrongArgument
from visionseq.cli.help_page import help_page
from visionseq.cli.option_types import PositiveInt


def draw(
    model: str,
    *,
    out: Path = Path("out"),
    num_samples: PositiveInt = 64,
    steps: list[PositiveInt] | None = None,
    names: list[str] | None = None,
    solver: Literal["euler", "heun"] = "euler",
    skip_corrupt: bool = False,
    seed: int | None = None,
    scale: float = 1.0,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    size: tuple[PositiveInt, PositiveInt] | None = None,
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
    return bind(draw, "visionseq draw", line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m", {"model": "m"}),
        ("--model m", {"model": "m"}),
        ("--model=m --num-samples 3", {"model": "m", "num_samples": 3}),
        ("m --num_samples=3", {"num_samples": 3}),
        ("--num-samples 3 m", {"model": "m", "num_samples": 3}),
        ("m --out a-b/c_d", {"out": Path("a-b/c_d")}),
        ("m --steps 1 2 5", {"steps": [1, 2, 5]}),
        ("m --steps 1,2,5", {"steps": [1, 2, 5]}),
        ("m --steps 1, 2, 5", {"steps": [1, 2, 5]}),
        ("m --steps=4", {"steps": [4]}),
        ("m --names a 1 b-c", {"names": ["a", "1", "b-c"]}),
        ("m --solver heun", {"solver": "heun"}),
        ("--skip-corrupt m", {"skip_corrupt": True, "model": "m"}),
        ("m --no-skip-corrupt", {"skip_corrupt": False}),
        ("m --skip-corrupt=true", {"skip_corrupt": True}),
        ("m --skip-corrupt=false", {"skip_corrupt": False}),
        ("m --seed -1 --scale 1e-3", {"seed": -1, "scale": 1e-3}),
        ("m --scale -1e-3", {"scale": -1e-3}),
        ("m --shift 0 0 0.5", {"shift": (0, 0, 0.5)}),
        ("m --shift 0,0,0.5", {"shift": (0, 0, 0.5)}),
        ("m --shift=-1,0,0.5", {"shift": (-1, 0, 0.5)}),
        ("m --shift -1 -2.5 1e-3 --seed 1", {"shift": (-1, -2.5, 1e-3), "seed": 1}),
        ("m --size 1242,375", {"size": (1242, 375)}),
        ("m --kinds png,svg", {"kinds": ["png", "svg"]}),
    ],
)
def test_arguments_are_understood(line, expected):
    found = arguments(line)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("", ["model"]),
        ("m --num-samples three", ["--num-samples", "three", "int"]),
        ("m --num-samples 0", ["--num-samples 0", "at least 1"]),
        ("m --steps 1 0", ["--steps 0", "at least 1"]),
        ("m --size 0,3", ["--size 0", "at least 1"]),
        ("m --num-sample 3", ["--num-sample", "--num-samples?"]),
        ("m --solver rk4", ["--solver", "rk4", "euler", "heun"]),
        ("m --steps x", ["--steps", "x", "int"]),
        ("m --steps", ["--steps"]),
        ("m --kinds png gif", ["--kinds", "gif", "png", "svg"]),
        ("m --shift 0 0", ["--shift: expected 3 values, found 2"]),
        ("m --shift", ["--shift"]),
        ("m --size 1242 3.5", ["--size", "3.5", "int"]),
        ("m --num-samples 3.5", ["--num-samples", "3.5", "int"]),
        ("m --seed 0.5", ["--seed", "0.5", "int"]),
        ("m extra", ["extra"]),
        ("m --skip-corrupt true", ["'true' belongs to no option", "--flag=true"]),
        ("m --seed", ["--seed"]),
        ("m --seed 1 --seed 2", ["--seed"]),
    ],
)
def test_wrong_arguments_are_one_line(line, parts):
    with pytest.raises(WrongArgument) as failure:
        arguments(line)
    text = str(failure.value)
    assert text.startswith("visionseq draw: ")
    assert all(part in text for part in parts), text
    assert "\n" not in text


def test_words_without_dashes_fill_the_parameters_before_the_star():
    def show(files: list[Path], *, out: Path = Path("out")) -> None:
        """Show."""

    def convert(room: str, source: Path, out: Path = Path("out"), *, reverse: bool = False) -> None:
        """Convert."""

    assert bind(show, "x", ["a", "b", "--out", "c"]) == {"files": [Path("a"), Path("b")], "out": Path("c")}
    assert bind(convert, "x", ["r", "--reverse", "s"]) == {"room": "r", "source": Path("s"), "reverse": True}
    assert bind(convert, "x", ["r", "s", "o"])["out"] == Path("o")
    with pytest.raises(WrongArgument, match="source"):
        bind(convert, "x", ["r"])


def test_required_option_is_named_with_its_dashes():
    def train(*, data_folder: Path) -> None:
        """Train."""

    with pytest.raises(WrongArgument, match="--data-folder"):
        bind(train, "visionseq train", [])


def test_help_shows_description_arguments_and_examples():
    text = help_page(draw, "visionseq draw")
    for part in (
        "usage: visionseq draw MODEL [options]\n",
        "Draw images.\n\nLonger text.\n",
        "How many images. (default: 64)",
        "--num-samples INT ",
        "--steps INT ...",
        "--solver euler|heun",
        "--skip-corrupt, --no-skip-corrupt",
        "--shift FLOAT FLOAT FLOAT",
        "--size INT INT",
    ):
        assert part in text
    assert text.endswith("examples:\n    visionseq draw rf-digits-2rf-pp --steps 1 2 5")


def test_the_texts_of_the_options_stand_in_one_column():
    def run(*, a: int = 1, length_of_name_25: int = 1, a_long_name_of_an_option: int = 1) -> None:
        """Run.

        Args:
            a: Text.
            length_of_name_25: Text.
            a_long_name_of_an_option: Text.
        """

    lines = [line for line in help_page(run, "x").splitlines() if "Text." in line]
    assert [line.index("Text.") for line in lines] == [28, 28, 28]
