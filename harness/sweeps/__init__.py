"""Sweeps: every case of a kind, run and held to what must come of it; what is wrong is counted.

Each module has a ``NAME``, ``cases(bench, seed)`` and ``case(bench, name)``: a scenario in, an outcome out.
``python -m benchmarks.soak --sweep NAME`` runs them, and the normal tests run a few of each.
"""
