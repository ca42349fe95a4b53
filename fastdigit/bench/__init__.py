"""``fastdigit-bench``: fastdigit beside other CPU runtimes, in one interleaved run.

:mod:`~fastdigit.bench.adapter` says what an adapter of a runtime is and
:mod:`~fastdigit.bench.runtimes` has one for each, :mod:`~fastdigit.bench.worker` runs
an adapter in a process of its own, :mod:`~fastdigit.bench.measure` decides who runs when and does
the statistics, :mod:`~fastdigit.bench.scenarios` puts a run together and leaves
:mod:`~fastdigit.bench.results`, which :mod:`~fastdigit.bench.report` writes as JSON and
:mod:`~fastdigit.bench.tables` shows. How the numbers are made is in docs/benchmarking.md.
"""
