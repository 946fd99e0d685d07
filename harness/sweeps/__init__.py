"""Sweeps: each one runs all cases of one kind, checks their results and counts what is wrong.

Each sweep is a module with ``NAME``, ``cases(bench, seed)`` and ``case(bench, name)``. ``python -m benchmarks.soak
--sweep NAME`` runs one. The tests run a few cases of each.
"""
