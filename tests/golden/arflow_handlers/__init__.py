"""Handlers of the golden files of `arflow`: each module may offer a dict `HANDLERS`, kind to check."""
