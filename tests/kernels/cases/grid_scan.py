"""Cases of grid_scan: T nodes as a grid of T / Y lines of Y, as one line, as single nodes; states; four directions."""

import torch
from operator_case import OperatorCase, State, Timed

from visionseq.errors import KernelArgumentError
from visionseq.kernels.grid_scan import grid_scan, grid_scan_step

GATES = ("source_r", "source_d", "t_rl", "t_ru", "t_dl", "t_du", "mark_l", "mark_u")


def on_grid(initial_state=None, *, height, **arguments):
    """grid_scan over [B, T, ...] of lines of `height` nodes; the state comes from the left and leaves to the right.

    `initial_top` is [B, T, H, K, V], of which every line uses its first node's.
    """
    if arguments["v"].dim() != 4:
        return grid_scan(**arguments)
    lines = arguments["v"].shape[1] // height
    top = arguments.pop("initial_top", None)
    options = {name: arguments.pop(name) for name in ("backend", "directions", "scale") if name in arguments}
    grids = {
        name: value if value is None else value.reshape(value.shape[0], lines, height, *value.shape[2:])
        for name, value in arguments.items()
    }
    borders = {"initial_left": initial_state, "initial_top": None if top is None else top[:, ::height]}
    try:
        y, right, bottom = grid_scan(**grids, **borders, **options)
    except KernelArgumentError as error:  # by the name that the contract knows
        raise KernelArgumentError(str(error).replace("initial_left", "initial_state")) from error
    y = y.flatten(1, 2)
    return (y, right) if bottom is None else (y, bottom.to(y.dtype), right)


def step(tokens, fixed, state):
    top = tokens.pop("initial_top")
    y, right, down = grid_scan_step(**tokens, left=state.squeeze(1), up=top)
    return (y, down.to(y.dtype)), right.unsqueeze(1)


def small(x: torch.Tensor) -> torch.Tensor:
    """Numbers in (-0.5, 0.5): no growth along any path."""
    return 0.5 * torch.tanh(x)


def extreme(x: torch.Tensor) -> torch.Tensor:
    """Exact zeros, ones, sign changes and the smallest numbers."""
    return torch.where(x > 0.5, 1.0, torch.where(x > 0, 0.0, torch.where(x > -0.5, -1e-30, -0.5)))


def case(name: str, keys: int, values: int, height: int, heads: int = 2, **options) -> OperatorCase:
    """A case with one direction and states, or with `directions=4`; options that are None are not given."""
    absent = [key for key, value in options.items() if value is None]
    one = options.get("directions", 1) == 1
    gate = (heads,) if one else (heads, 4)
    arguments = {"v": Timed((heads, values)), "q": Timed((heads, keys)), "k": Timed((heads, keys))}
    turns = {key: Timed(gate, small) for key in GATES[2:6] if key not in absent}
    arguments |= {key: Timed(gate) for key in GATES[:2]} | turns | {key: Timed(gate) for key in GATES[6:]}
    if "direct" not in absent:
        arguments["direct"] = Timed((heads,))
    if one:
        arguments["initial_top"] = Timed((heads, keys, values))
    return OperatorCase(
        name=f"grid_scan-{name}",
        function=on_grid,
        arguments=arguments,
        state=State((height, heads, keys, values)) if one else None,
        options={"height": height} | options,
        step=step if height == 1 and one and not absent else None,
        extreme={key: extreme for key in turns},
        outputs=2 if one else 1,
        lengths=(0, 1, 2, 63, 64, 65, 257) if height == 1 else tuple(height * lines for lines in (0, 1, 2, 9, 22)),
        reversible=False,
        packable=False,
        multiple=height,
    )


CASES = [
    case("states", keys=3, values=5, height=4),
    case("line", keys=4, values=3, height=1),
    case("one-turn", keys=5, values=2, height=3, t_dl=None, direct=None),
    case("four-by-weights", keys=3, values=16, height=3, heads=1, directions=4),
    case("four-by-states", keys=4, values=1, height=3, heads=1, directions=4, t_ru=None),
    case("scale", keys=2, values=33, height=2, heads=1, scale=0.7),
]

ON_A_GPU = [
    case("gpu-states", keys=64, values=64, height=2),
    case("gpu-four-by-weights", keys=64, values=64, height=2, directions=4),
    case("gpu-four-by-states", keys=64, values=1, height=6, directions=4),
]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", keys=width, values=width, height=2)


WIDTHS = (1, 16, 32, 100, 128, 256, 1024)  # on Triton, from the narrowest to the widest
