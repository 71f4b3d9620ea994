"""Runs every golden file of `lidar_data` through the handlers of `lidar_data_handlers`."""

from harness import golden_test

test_golden = golden_test("lidar_data")
