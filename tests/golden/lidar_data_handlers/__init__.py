"""Handlers of the golden files of `lidar_data`: each module may offer a dict `HANDLERS`, kind to check."""
