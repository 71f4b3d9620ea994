"""Benchmarks: every figure is a ratio against a named peer, measured alternately in one run."""
