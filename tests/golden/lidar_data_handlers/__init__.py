"""Handlers of the golden files of the lidar data pipeline: each module offers a dict `HANDLERS`, name to check."""
