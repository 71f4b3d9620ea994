"""The scan kernels and the choice of their backend."""
