"""What a training did, iteration by iteration, and the numbers, table and figure that tell whether it was stable."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.lib.stride_tricks import sliding_window_view

from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.readers import told
from nnunet_rw.util.tables import json_value, text_table

matplotlib.use("agg")

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
        """Whether all iterations were run, or a non-finite loss ended them earlier."""
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

    Raises
    ------
    DamagedFile
        The file holds something else.
    """
    path = Path(path)
    if not path.is_file():
        return None
    with told(path, "Remove it: the same command repeats the run."):
        text = path.read_text(encoding="utf-8")
        header, *rows = csv.reader(text.splitlines(), strict=True) if text else [[]]
        if not rows or not text.endswith("\n") or {len(row) for row in rows} != {len(header)}:
            return None
        classes = (len(header) - len(_RUN_COLUMNS)) // len(_SHARES)
        if classes < 1:
            raise ValueError("its columns are those of another table")
        values = np.array([row[3:] for row in rows], dtype=np.float64)
    predicted, true, overlap = (values[:, 2 + k * classes : 2 + (k + 1) * classes] for k in range(len(_SHARES)))
    curves = Curves(values[:, 0], values[:, 1], predicted, true, overlap)
    return curves if curves.is_finished(iterations) else None


def join_files(paths: Sequence[Path], target: Path) -> None:
    """One file of several with the same columns, the header once."""
    texts = [path.read_text(encoding="utf-8").split("\n", 1) for path in paths]
    write_atomically(target, (texts[0][0] + "\n" + "".join(rows for _, rows in texts)).encode())


# nnU-Net clips gradients at this norm.
CLIP_NORM = 12.0
SPIKE_FACTOR = 10.0
# Enough to be no spike's own, few enough to follow a norm that falls.
MEDIAN_ITERATIONS = 25
MIN_HISTORY = 5
BACKGROUND_SHARE = 0.01


@dataclass(frozen=True)
class RunMeasures:
    """Stability of one training. "First" and "last" are a tenth of the iterations each, at least one.

    Attributes
    ----------
    iterations : int
    diverged : bool
        The last loss is non-finite, or the mean of the last losses is above that of the first by more than two
        standard errors of their difference (batches differ, so that even a network that learns nothing has a loss that
        goes up and down).
    start, end : float
        Mean of the first and of the last finite losses; nan without any.
    largest_rise : float in [0, 1]
        Of the loss's moving mean above its lowest value so far, relative to the moving mean's range. 1 means that the
        highest point came after the lowest; 0 that it never rose.
    gradient_spikes : int
        See `gradient_spikes`.
    clipped_share : float in [0, 1]
        Of the steps with a finite gradient, those whose norm was above nnU-Net's 12.
    all_background : bool
        The last predictions hold less than 1 % as many foreground voxels as there are.
    predicted_over_true : float
        Predicted foreground voxels per true one at the end; nan without any true one.
    pseudo_dice : float in [0, 1]
        As nnU-Net's, sums over all voxels of the last batches, mean over classes; here of training patches.
    """

    iterations: int
    diverged: bool
    start: float
    end: float
    largest_rise: float
    gradient_spikes: int
    clipped_share: float
    all_background: bool
    predicted_over_true: float
    pseudo_dice: float


def measure(curves: Curves) -> RunMeasures:
    """All measures of one training of at least one iteration."""
    window = window_of(len(curves.loss))
    loss = curves.loss[np.isfinite(curves.loss)]
    norms = curves.gradient_norm[np.isfinite(curves.gradient_norm)]
    first, last = loss[:window], loss[-window:]
    predicted, true = (float(share[-window:].sum()) for share in (curves.predicted, curves.true))
    return RunMeasures(
        iterations=len(curves.loss),
        diverged=not math.isfinite(curves.loss[-1]) or is_higher(last, first),
        start=float(first.mean()) if len(loss) else math.nan,
        end=float(last.mean()) if len(loss) else math.nan,
        largest_rise=largest_rise(moving_mean(loss, min(window, len(loss)))) if len(loss) else math.nan,
        gradient_spikes=int(gradient_spikes(curves.gradient_norm).sum()),
        clipped_share=float((norms > CLIP_NORM).mean()) if len(norms) else math.nan,
        all_background=predicted < BACKGROUND_SHARE * true,
        predicted_over_true=predicted / true if true else math.nan,
        pseudo_dice=float(pooled_dice(curves, window)[-1]),
    )


def window_of(iterations: int) -> int:
    """A tenth of the iterations, at least one."""
    return max(1, iterations // 10)


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of every ``window`` successive values; (T,) to (T - window + 1,)."""
    return sliding_window_view(values, window).mean(1)


def is_higher(values: np.ndarray, reference: np.ndarray) -> bool:
    """Whether the mean is above the reference's by more than two standard errors of the difference.

    Without scatter, as of single values, any difference counts.
    """
    if not len(values) or not len(reference):
        return False
    error = math.sqrt(values.var() / len(values) + reference.var() / len(reference))
    return bool(values.mean() - reference.mean() > 2 * error)


def largest_rise(values: np.ndarray) -> float:
    """Largest rise of (T,) values above their minimum so far, relative to their range; 0 where all are equal."""
    spread = np.ptp(values)
    return float((values - np.minimum.accumulate(values)).max() / spread) if spread else 0.0


def gradient_spikes(norms: np.ndarray) -> np.ndarray:
    """(T,) booleans: a norm above ten times the median of the 25 before it.

    None among the first five. Norms that are not finite, which mixed precision gives when it overflows and skips the
    step, are neither spikes nor part of a median.
    """
    spikes = np.zeros(len(norms), dtype=bool)
    history: list[float] = []
    for iteration, norm in enumerate(norms):
        if not math.isfinite(norm):
            continue
        if len(history) >= MIN_HISTORY:
            spikes[iteration] = norm > SPIKE_FACTOR * np.median(history[-MEDIAN_ITERATIONS:])
        history.append(norm)
    return spikes


def pooled_dice(curves: Curves, window: int) -> np.ndarray:
    """Dice of the voxels of every ``window`` successive batches together, mean over classes; (T - window + 1,).

    A class that is neither predicted nor there is left out; nan where that is every class.
    """
    predicted, true, overlap = (
        sliding_window_view(share, window, axis=0).sum(-1) for share in (curves.predicted, curves.true, curves.overlap)
    )
    present = predicted + true > 0
    dice = np.where(present, 2 * overlap / np.where(present, predicted + true, 1), 0)
    return np.where(present.any(1), dice.sum(1) / np.maximum(present.sum(1), 1), np.nan)


def summarise_runs(runs: Sequence[RunMeasures]) -> dict[str, Any]:
    """Counts, and [lowest, median, highest] of what is a number, over the seeds of one loss; None stands for nan."""
    summary: dict[str, Any] = {"runs": len(runs)}
    for name in ("diverged", "all_background"):
        summary[name] = sum(getattr(run, name) for run in runs)
    for name in ("largest_rise", "gradient_spikes", "clipped_share", "predicted_over_true", "pseudo_dice"):
        values = [getattr(run, name) for run in runs if math.isfinite(getattr(run, name))]
        summary[name] = [float(f(values)) for f in (np.min, np.median, np.max)] if values else None
    summary["each_run"] = json_value([asdict(run) for run in runs])
    return summary


_HEADER = (
    "loss",
    "runs",
    "diverged",
    "all background",
    "rise of the loss",
    "gradient spikes",
    "steps clipped",
    "predicted / true",
    "pseudo-Dice",
)
_LEGEND = """\
Diverged and all background count runs; the others are the median (lowest to highest) over the seeds.
diverged: the loss ended above its start by more than two standard errors, or non-finite
all background: predicted less than 1 % of the foreground in the last tenth of the iterations
rise of the loss: largest, of its moving mean above the lowest so far, relative to the moving mean's range
gradient spikes: norms above ten times the median of the 25 before; steps clipped: at nnU-Net's norm of 12
predicted / true, pseudo-Dice: foreground voxels and Dice of the last tenth's training patches"""


def stability_table(summaries: Mapping[str, Mapping[str, Any]], optimizer: str) -> str:
    """A row per loss, and below what the columns mean.

    Parameters
    ----------
    summaries : mapping of str to what `summarise_runs` returns
        By name of the loss.
    optimizer : str
        Of all runs, in words.
    """
    table = text_table(_HEADER, [_row(name, summary) for name, summary in summaries.items()])
    return f"{table}\n\nOptimiser: {optimizer}. {_LEGEND}"


def _row(name: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        str(summary["runs"]),
        str(summary["diverged"]),
        str(summary["all_background"]),
        _spread(summary["largest_rise"], ".0%"),
        _spread(summary["gradient_spikes"], ".0f"),
        _spread(summary["clipped_share"], ".0%"),
        _spread(summary["predicted_over_true"], ".2f"),
        _spread(summary["pseudo_dice"], ".3f"),
    )


def _spread(values: list[float] | None, digits: str) -> str:
    if values is None:
        return "none"
    low, median, high = (format(value, digits) for value in values)
    return f"{median} ({low} to {high})"


def draw_stability(curves: Mapping[str, Sequence[Curves]], path: str | Path, title: str = "") -> None:
    """Write a PNG: every seed a thin line, the median over the seeds a thick one.

    Losses have axes of their own, since their units differ; gradient norms (logarithmic, with nnU-Net's clip) and Dice
    have one for all. Loss and Dice are those of a moving tenth of the iterations, drawn at its end; the loss of every
    iteration is pale behind it. A cross marks where a non-finite loss ended a run.

    Parameters
    ----------
    curves : mapping of str to sequence of Curves
        By name of the loss, a training a seed; at least one.
    path : path
        Of the PNG.
    title : str
        Above all columns, such as the optimiser of all runs.
    """
    length = max(len(run.loss) for runs in curves.values() for run in runs)
    window = window_of(length)
    figure, axes = plt.subplots(3, len(curves), figsize=(4.4 * len(curves), 8), squeeze=False, sharex=True)
    for (loss, norm, dice), (name, runs) in zip(axes.T, curves.items(), strict=True):
        for run in runs:
            loss.plot(run.loss, color="C0", linewidth=0.4, alpha=0.25)
            if not np.isfinite(run.loss[-1]):
                loss.plot(len(run.loss) - 1, 0.5, "rx", transform=loss.get_xaxis_transform())
        _draw_seeds(loss, [moving_mean(run.loss, min(window, len(run.loss))) for run in runs], runs, length)
        _draw_seeds(norm, [run.gradient_norm for run in runs], runs, length)
        _draw_seeds(dice, [pooled_dice(run, min(window, len(run.loss))) for run in runs], runs, length)
        norm.axhline(CLIP_NORM, color="grey", linestyle="--", linewidth=0.8)
        norm.set_yscale("log", nonpositive="mask")
        dice.set(ylim=(0, 1), xlabel="iteration")
        loss.set_title(f"{name} ({len(runs)} seeds)", fontsize=10)
    for row, label in zip(axes, ("loss", "gradient norm before clipping", "Dice of training patches"), strict=True):
        row[0].set_ylabel(label)
    limits = [norm.get_ylim() for norm in axes[1]]
    for norm in axes[1]:
        norm.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_seeds(axis: Axes, lines: Sequence[np.ndarray], runs: Sequence[Curves], length: int) -> None:
    """Lines that end with their run, thin, and their median, thick."""
    aligned = np.full((len(lines), length), np.nan)
    for row, values, run in zip(aligned, lines, runs, strict=True):
        row[len(run.loss) - len(values) : len(run.loss)] = np.where(np.isfinite(values), values, np.nan)
    axis.plot(aligned.T, color="C0", linewidth=0.8, alpha=0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # iterations that no run has a value of
        axis.plot(np.nanmedian(aligned, axis=0), color="black", linewidth=2)
