"""Runs every golden file of `kernels` through the handlers of `kernels_handlers`."""

from harness import golden_test

test_golden = golden_test("kernels")
