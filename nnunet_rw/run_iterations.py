"""The training iterations of a recorded training: ``iterations.csv`` in nnU-Net's fold folder."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunet_rw.files import write_atomically

ITERATIONS_FILE = "iterations.csv"
COLUMNS = ("epoch", "iteration", "loss", "gradient_norm", "loader_wait_seconds")


def append_iterations(folder: str | Path, rows: Iterable[Sequence[float]]) -> None:
    """Add rows of `COLUMNS`, to be followed by the record that tells of their epoch."""
    with open(Path(folder) / ITERATIONS_FILE, "a", encoding="utf-8", newline="") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def keep_iterations(folder: str | Path, epochs: Container[int]) -> None:
    """Make the file, and leave in it only the rows of some epochs."""
    path = Path(folder) / ITERATIONS_FILE
    rows = _rows_of(path, epochs) if path.is_file() else []
    write_atomically(path, "".join(f"{row}\n" for row in (",".join(COLUMNS), *rows)).encode())


def iterations_of(folder: str | Path, epochs: Container[int]) -> dict[str, np.ndarray]:
    """Columns (N,) float64 of the rows of some epochs.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no file, or it is damaged.
    """
    path = Path(folder) / ITERATIONS_FILE
    try:
        rows = [row.split(",") for row in _rows_of(path, epochs)]
        values = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). Remove the training's folder and train again.") from error
    return dict(zip(COLUMNS, values.T, strict=True))


def _rows_of(path: Path, epochs: Container[int]) -> list[str]:
    # A process that is killed may leave half a row, which has no end.
    rows = path.read_text(encoding="utf-8").split("\n")[1:-1]
    return [row.rstrip("\r") for row in rows if int(row.partition(",")[0]) in epochs]
