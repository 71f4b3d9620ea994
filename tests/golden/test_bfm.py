"""Runs every golden file of `bfm` through the handlers of `bfm_handlers`."""

from harness import golden_test

test_golden = golden_test("bfm")
