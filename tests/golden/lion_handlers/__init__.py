"""Handlers of the golden files of LION: each module offers a dict `HANDLERS`, name to check."""
