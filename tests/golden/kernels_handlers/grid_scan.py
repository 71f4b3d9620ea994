"""grid_scan against golden files: border states in and out, a missing turn, four directions."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator
from visionseq.kernels.grid_scan import grid_scan

ARGUMENTS = {name: name for name in ("q", "k", "v", "t_rl", "t_ru", "t_dl", "t_du")} | {
    "source_r": "s_r",
    "source_d": "s_d",
    "mark_l": "m_l",
    "mark_u": "m_u",
    "direct": "d",
    "initial_left": "c_left",
    "initial_top": "c_top",
}
TURNS = ("t_ru", "t_dl")


def check_grid_scan(vector: GoldenVector) -> None:
    absent = {name: None for name in TURNS if f"in/{name}" not in vector}
    scale = vector.config.get("scale")
    options = absent | {"scale": scale if isinstance(scale, (int, float)) else None}
    if vector["in/s_r"].dim() == 4:
        check_operator(vector, grid_scan, ARGUMENTS, ["y", "c_right", "c_bottom"], **options)
    else:
        check_operator(vector, four_directions, ARGUMENTS, ["y"], **options)


def four_directions(**arguments):
    """y of four directions with the gates as the files hold them.

    Axes H and 4 of a file were written from the official code's flat axis as [4, H], which that code reads as [H, 4].
    """
    gates = {name for name in ARGUMENTS if name.startswith(("source", "t_", "mark"))}
    own = {
        name: value.mT.flatten(-2).unflatten(-1, value.shape[-2:]) if name in gates and value is not None else value
        for name, value in arguments.items()
    }
    return grid_scan(**own, directions=4)[0]


HANDLERS = {"grid_scan": check_grid_scan}
