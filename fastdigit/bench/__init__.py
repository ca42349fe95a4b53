"""``fastdigit-bench``: fastdigit beside other CPU runtimes, in one interleaved run.

:mod:`~fastdigit.bench.runtimes` has one adapter a runtime, :mod:`~fastdigit.bench.worker` runs
an adapter in a process of its own, :mod:`~fastdigit.bench.measure` decides who runs when and does
the statistics, :mod:`~fastdigit.bench.scenarios` puts a run together, and
:mod:`~fastdigit.bench.report` shows it. How the numbers are made is in docs/benchmarking.md.
"""
