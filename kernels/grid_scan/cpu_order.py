"""The order in which a direction comes to the nodes: direction r flips x where r is odd and y where r is 2 or 3.

A line is the nodes of one x; lines and the steps along a line are counted as the direction comes to them.
"""

from visionseq.kernels.compiled import inlined


@inlined
def line_x(line, width, r):
    """x of a line."""
    return width - 1 - line if r % 2 == 1 else line


@inlined
def step_y(step, height, r):
    """y of a step along a line."""
    return height - 1 - step if r >= 2 else step


@inlined
def gates_of(row):
    """source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u."""
    return row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
