"""LION: 3D detection in point clouds with linear group recurrent networks (arXiv 2407.18232)."""
