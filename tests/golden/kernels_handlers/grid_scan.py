"""grid_scan against golden files: border states in and out, a missing turn, four directions."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator, options_of
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
    options = options_of(vector, grid_scan) | {name: None for name in TURNS if f"in/{name}" not in vector}
    options["directions"] = 1 if vector["in/s_r"].dim() == 4 else 4
    outputs = ["y", "c_right", "c_bottom"][: 3 if options["directions"] == 1 else 1]
    check_operator(vector, _results, ARGUMENTS, outputs, **options)


def _results(**arguments):
    """The results that there are: four directions leave no border states."""
    return [result for result in grid_scan(**arguments) if result is not None]


HANDLERS = {"grid_scan": check_grid_scan}
