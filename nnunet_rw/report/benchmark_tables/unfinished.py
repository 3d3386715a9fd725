"""What of a benchmark is missing, as a report may tell it."""

from __future__ import annotations

from nnunet_rw.benchmark.results import BenchmarkResults


def unfinished_lines(results: BenchmarkResults) -> list[str]:
    """Jobs and their states, without the message of an error, which may name a case or a folder."""
    return [line.partition(",")[0] for line in results.unfinished]
