"""Runs every golden file of `lion` through the handlers of `lion_handlers`."""

from harness import golden_test

test_golden = golden_test("lion")
