"""Handlers of the golden files of `linear_rnn_ops`: each module may offer a dict `HANDLERS`, kind to check."""
