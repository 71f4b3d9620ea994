"""Handlers of the golden files of `kernels`: each module may offer a dict `HANDLERS`, kind to check."""
