"""What a training did, iteration by iteration, and the CSV file that holds it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_rw.files import write_atomically

_RUN_COLUMNS = ("loss", "seed", "iteration", "value", "gradient_norm")
_SHARES = ("predicted", "true", "overlap")


@dataclass(frozen=True)
class Curves:
    """One training; T iterations, K foreground classes or regions.

    Attributes
    ----------
    loss : (T,) float64
    gradient_norm : (T,) float64
        Euclidean norm over all parameters, before clipping.
    predicted, true, overlap : (T, K) float64 in [0, 1]
        Share of the batch's labelled voxels that are predicted to be of the class, are of the class, and both.
    """

    loss: np.ndarray
    gradient_norm: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    overlap: np.ndarray

    def is_finished(self, iterations: int) -> bool:
        """Whether all iterations were run, or a loss that is no number ended them earlier."""
        return len(self.loss) == iterations or (len(self.loss) > 0 and not math.isfinite(self.loss[-1]))


def write_curves(path: str | Path, name: str, seed: int, curves: Curves) -> None:
    """Write one row per iteration, all of them or none.

    Columns are loss (its name), seed, iteration (from 0), value, gradient_norm, and predicted_k, true_k and overlap_k
    for each class k from 1, see `Curves`.

    Parameters
    ----------
    path : path
        Of the CSV file.
    name : str
        Of the loss.
    seed : int
    curves : Curves
    """
    classes = range(1, curves.true.shape[1] + 1)
    columns = [curves.loss, curves.gradient_norm, *(x for share in _SHARES for x in getattr(curves, share).T)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_RUN_COLUMNS, *(f"{share}_{number}" for share in _SHARES for number in classes)])
    for iteration, values in enumerate(zip(*columns, strict=True)):
        writer.writerow([name, seed, iteration, *(f"{value:.8g}" for value in values)])
    write_atomically(Path(path), text.getvalue().encode())


def read_finished_curves(path: str | Path, iterations: int) -> Curves | None:
    """The curves of a file; None where there is none, or where it is torn or of an unfinished run.

    Parameters
    ----------
    path : path
    iterations : int
        That a finished run has, see `Curves.is_finished`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    header, *rows = csv.reader(text.splitlines()) if text else [[]]
    if not rows or not text.endswith("\n") or {len(row) for row in rows} != {len(header)}:
        return None
    classes = (len(header) - len(_RUN_COLUMNS)) // len(_SHARES)
    values = np.array([row[3:] for row in rows], dtype=np.float64)
    predicted, true, overlap = (values[:, 2 + k * classes : 2 + (k + 1) * classes] for k in range(len(_SHARES)))
    curves = Curves(values[:, 0], values[:, 1], predicted, true, overlap)
    return curves if curves.is_finished(iterations) else None


def join_files(paths: Sequence[Path], target: Path) -> None:
    """One file of several with the same columns, the header once."""
    texts = [path.read_text(encoding="utf-8").split("\n", 1) for path in paths]
    write_atomically(target, (texts[0][0] + "\n" + "".join(rows for _, rows in texts)).encode())
