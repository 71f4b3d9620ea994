"""Runs every golden file of `sit` through the handlers of `sit_handlers`."""

from harness import golden_test

test_golden = golden_test("sit")
