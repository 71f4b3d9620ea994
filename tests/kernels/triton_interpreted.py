"""Run by test_triton.py in a process of its own with TRITON_INTERPRET=1: the Triton kernels against the reference.

Beside the values: any layout of the arguments, and any subset of the results that carries the loss.

python triton_interpreted.py <operator> <all | one | wide>
"""

import os
import sys
from collections.abc import Callable
from itertools import cycle

import torch
from case_list import MODULES
from comparing import assert_close, run
from operator_case import OperatorCase
from properties import LAYOUTS, check_layouts, check_subsets_of_cotangents

WIDE = 256  # channels of a head
BEYOND_A_CHUNK = 67  # kernels take 16 to 64 tokens at a time


def main(operator: str, extent: str) -> None:
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise SystemExit("TRITON_INTERPRET=1 must be set before triton is imported")
    for case in cases_of(operator, extent):
        lengths, batch = {"all": ((0, 1, 5, 19, BEYOND_A_CHUNK), 2), "one": ((5,), 2), "wide": ((2,), 1)}[extent]
        for length in lengths:
            for options in [{}, {"reverse": True}] if case.reversible else [{}]:
                for state in (True, False):
                    values = case.make(length * case.multiple, batch, state=state)
                    expected = run(case, values, torch.float64, backend="reference", **options)
                    assert_close(run(case, values, backend="triton", **options), expected, case)
        if extent == "wide":
            print(case.name, "agrees")
            continue
        if case.packable:
            bounds = torch.tensor([0, 2, 2, BEYOND_A_CHUNK]) * case.multiple
            values = case.make(int(bounds[-1]), batch=1, segments=3)
            expected = run(case, values, torch.float64, backend="reference", cu_seqlens=bounds)
            assert_close(run(case, values, backend="triton", cu_seqlens=bounds), expected, case)
        for axis in range(3 if extent == "all" else 1):
            check_layouts(case, "triton", 2, in_turn(axis))
        check_layouts(case, "triton", 2, lambda: ("permuted", 0))
        check_subsets_of_cotangents(case, "triton", 2)
        print(case.name, "agrees")


def cases_of(operator: str, extent: str) -> list[OperatorCase]:
    """Small ones, or one of wide heads, for which a kernel takes smaller blocks."""
    module = MODULES[operator]
    if extent == "wide":
        return [module.of_width(max(width for width in module.WIDTHS if width <= WIDE))]
    return module.CASES if extent == "all" else module.CASES[:1]


def in_turn(axis: int) -> Callable[[], tuple[str, int]]:
    """One layout after the other."""
    layouts = cycle(LAYOUTS)
    return lambda: (next(layouts), axis)


if __name__ == "__main__":
    main(*sys.argv[1:])
