"""Handlers of the golden files of `rectified_flow`: each module may offer a dict `HANDLERS`, kind to check."""
