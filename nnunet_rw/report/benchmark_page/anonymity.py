"""What cases are called on a page that may leave the clinic."""

from __future__ import annotations

from nnunet_rw.benchmark.results import TaskResults


def case_names(task: TaskResults, show_case_ids: bool) -> dict[str, str]:
    """Of every evaluated case its own name, or "case 1" and so on in the order of the names."""
    cases = sorted({case for seeds in task.evaluations.values() for item in seeds.values() for case in item.cases})
    return {case: case if show_case_ids else f"case {number}" for number, case in enumerate(cases, start=1)}
