"""Handlers of the golden files of `bfm`: each module may offer a dict `HANDLERS`, kind to check."""
