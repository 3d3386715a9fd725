"""``python -m benchmarks [NAME ...]``: measure, print, and write ``benchmarks/results/<name>.json``."""

import argparse
from importlib import import_module

from benchmarks.harness import write_result
from nnunet_rw.report.table import text_table

NAMES = ("lesion_count", "evaluation")


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
chosen = parser.parse_args().names or NAMES
unknown = sorted(set(chosen) - set(NAMES))
if unknown:
    parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(NAMES)}")
for name in chosen:
    rows = import_module(f"benchmarks.{name}").run()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    print(f"{name}\n\n{text_table(columns, cells)}\n\n{write_result(name, rows)}\n")
