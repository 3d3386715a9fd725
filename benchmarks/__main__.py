"""``python -m benchmarks [NAME ...]``: measure, print, and write ``benchmarks/results/<name>.json``."""

import argparse
from importlib import import_module

from benchmarks.documents import update_documents
from benchmarks.harness import write_result
from nnunet_rw.util.tables import text_table

NAMES = (
    "maps",
    "dataset_maps",
    "store",
    "growth",
    "loader",
    "losses",
    "per_lesion",
    "lesion_count",
    "gradient_shares",
    "threshold_margin",
    "rules",
    "coverage",
    "evaluation",
)
# It wants rivals that pin other versions than nnU-Net.
ONLY_BY_NAME = ("evaluation",)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument(
    "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all but {' and '.join(ONLY_BY_NAME)}"
)
parser.add_argument("-d", "--dataset", nargs="+", default=[], help="preprocessed ones, of store and gradient_shares")
parser.add_argument("--tables", action="store_true", help="measure nothing: draw the documentation's tables anew")
arguments = parser.parse_args()
if arguments.tables:
    print(f"changed: {', '.join(update_documents()) or 'nothing'}")
    raise SystemExit
chosen = arguments.names or [name for name in NAMES if name not in ONLY_BY_NAME]
unknown = sorted(set(chosen) - set(NAMES))
if unknown:
    parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(NAMES)}")
for name in chosen:
    options: dict[str, object] = {}
    if name in ("store", "gradient_shares"):
        options = {"datasets": arguments.dataset}
    rows = import_module(f"benchmarks.{name}").run(**options)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    print(f"{name}\n\n{text_table(columns, cells)}\n\n{write_result(name, rows)}\n")
