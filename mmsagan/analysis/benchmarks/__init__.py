"""What ``tools/benchmark.py`` measures: training steps, sampling, evaluation, reading of data, each against a reference.

:mod:`~mmsagan.analysis.benchmarks.suite` goes through what is asked for; ``models``, ``evaluation`` and ``data`` set up what is
measured, as a :class:`~mmsagan.analysis.workloads.Workload`; ``sides`` makes the GANs that are compared.
"""
