"""Runs every golden file of `rectified_flow` through the handlers of `rectified_flow_handlers`."""

from harness import golden_test

test_golden = golden_test("rectified_flow")
