"""Run by test_triton.py in a process of its own with TRITON_INTERPRET=1: the Triton kernels against the reference.

python triton_interpreted.py <operator> <all | one>
"""

import os
import sys

import torch
from case_list import MODULES
from comparing import assert_close, run

BEYOND_A_CHUNK = 67  # kernels take 16 to 64 tokens at a time


def main(operator: str, extent: str) -> None:
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise SystemExit("TRITON_INTERPRET=1 must be set before triton is imported")
    cases = MODULES[operator].CASES
    for case in cases if extent == "all" else cases[:1]:
        lengths = (0, 1, 5, 19, BEYOND_A_CHUNK) if extent == "all" else (5,)
        for length in lengths:
            for options in [{}, {"reverse": True}] if case.reversible else [{}]:
                for state in (True, False):
                    values = case.make(length * case.multiple, state=state)
                    expected = run(case, values, torch.float64, backend="reference", **options)
                    assert_close(run(case, values, backend="triton", **options), expected, case)
        if case.packable:
            bounds = torch.tensor([0, 2, 2, BEYOND_A_CHUNK]) * case.multiple
            values = case.make(int(bounds[-1]), batch=1, segments=3)
            expected = run(case, values, torch.float64, backend="reference", cu_seqlens=bounds)
            assert_close(run(case, values, backend="triton", cu_seqlens=bounds), expected, case)
        print(case.name, "agrees")


if __name__ == "__main__":
    main(*sys.argv[1:])
