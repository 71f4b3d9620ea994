"""Runs every golden file of `arflow` through the handlers of `arflow_handlers`."""

from harness import golden_test

test_golden = golden_test("arflow")
