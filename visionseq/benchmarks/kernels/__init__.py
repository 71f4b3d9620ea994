"""Benchmarks of the scan kernels: speed against the naive loop and named peers, memory, growth with length, threads."""
