"""Layers and model plumbing shared by two or more rooms."""
