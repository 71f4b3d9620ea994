"""Runs every golden file of `linear_rnn_ops` through the handlers of `linear_rnn_ops_handlers`."""

from harness import golden_test

test_golden = golden_test("linear_rnn_ops")
