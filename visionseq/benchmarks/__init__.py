"""Benchmarks: every figure is a ratio against a named peer, measured alternately in one run.

Each folder is a benchmark, named after its room or part, and offers `sections(...)`: names of its parts -> functions of
(device, rounds) that return plain values. Its arguments are the benchmark's own options. Where a page belongs to the
figures, it offers `write_page(path, results, machine)` as well.
"""
