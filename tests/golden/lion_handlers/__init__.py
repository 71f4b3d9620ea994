"""Handlers of the golden files of `lion`: each module may offer a dict `HANDLERS`, kind to check."""
