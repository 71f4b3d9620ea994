"""Runs every golden file of `raag` through the handlers of `raag_handlers`."""

from harness import golden_test

test_golden = golden_test("raag")
