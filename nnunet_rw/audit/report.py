"""An audit as files, for the terminal and as a picture."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nnunet_rw.audit.audit import Audit
from nnunet_rw.audit.lesions import LabelSummary, SharedLesions, pooled
from nnunet_rw.evaluation.metrics.detection import size_name
from nnunet_rw.evaluation.units import raised
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.tables import NOTHING, csv_text, json_value, text_table

COLUMNS = ("case", "label", "lesion", "voxels", "volume_mm3", "border_voxels", "size_from_mm3")


def write_audit(audit: Audit, folder: Path) -> list[Path]:
    """Write both files.

    audit.json holds what the terminal shows, null for what is undefined or without bound; lesions.csv one row per
    lesion, with the labels of evaluations and the lower bound of its size class. Lesions are numbered within case and
    label.
    """
    content = {
        "dataset": audit.dataset,
        "labels_from": audit.folder,
        "cases": len(audit.cases),
        "size_unit": audit.size_unit,
        "labels": [asdict(label) for label in audit.labels],
        "sizes": [asdict(size) for size in audit.sizes],
        "gradient_patches": audit.num_patches,
        "gradients": [asdict(shares) for shares in audit.gradients],
        "recommendation": asdict(audit.recommendation),
        "shared_lesions": asdict(audit.shared),
    }
    paths = [folder / "audit.json", folder / "lesions.csv"]
    write_atomically(paths[0], f"{json.dumps(json_value(content), indent=2)}\n".encode())
    write_atomically(paths[1], csv_text(COLUMNS, _lesion_rows(audit)).encode())
    return paths


def _lesion_rows(audit: Audit) -> Iterator[tuple[Any, ...]]:
    for case, lesions in zip(audit.cases, audit.lesions, strict=True):
        numbers = [0] * len(audit.label_values)
        for row in range(len(lesions)):
            label = int(lesions.label[row])
            numbers[label] += 1
            yield (
                case,
                audit.label_values[label],
                numbers[label],
                int(lesions.voxels[row]),
                f"{lesions.volume_mm3[row]:.10g}",
                int(lesions.border_voxels[row]),
                f"{audit.sizes[lesions.size_class[row]].low_mm3:g}",
            )


_LABEL_HEADER = (
    "label",
    "cases with it",
    "lesions",
    "per case",
    "median {}",
    "Gini",
    "voxels in largest tenth",
    "voxels on boundary",
)


def audit_text(audit: Audit) -> str:
    """Lesions by label and by size, who gets the gradient, and the recommendation."""
    count = sum(len(lesions) for lesions in audit.lesions)
    sizes = [size_name(size.low_mm3, size.high_mm3, audit.size_unit) for size in audit.sizes]
    by_size = [
        (text, size.num_lesions, share_text(size.lesion_share), share_text(size.voxel_share))
        for text, size in zip(sizes, audit.sizes, strict=True)
    ]
    gradients = [
        (shares.trainer, shares.loss, *map(share_text, shares.by_size), share_text(shares.of_lesions))
        for shares in audit.gradients
    ]
    gradient_header = ("trainer", "loss", *sizes, "lesions of all gradient")
    recommendation = f"Recommended: {audit.recommendation.trainer}, because {audit.recommendation.reason}"
    warning = sharing_warning(audit.shared, audit.dataset)
    return "\n\n".join(
        [
            f"{audit.dataset}: {count} lesions in {len(audit.cases)} cases of {audit.folder}",
            text_table(
                [name.format(audit.size_unit) for name in _LABEL_HEADER], [_label_row(label) for label in audit.labels]
            ),
            text_table(("lesion size", "lesions", "share of lesions", "share of voxels"), by_size),
            f"Who gets the gradient of the lesions' voxels before anything is learned ({audit.num_patches} patches):",
            text_table(gradient_header, gradients),
            textwrap.fill(recommendation, 118),
            *([textwrap.fill(warning, 118)] if warning else []),
        ]
    )


def sharing_warning(shared: SharedLesions, dataset: str) -> str:
    """What to tell and to do; empty where nothing is shared, or no fold parts it."""
    parted = sum(number > 0 for number in shared.parted)
    if not shared.pairs or (shared.parted and not parted):
        return ""
    one, two = shared.pairs[0]
    many = len(shared.pairs)
    folds = (
        f"{parted} of {len(shared.parted)} folds train on one of a pair and validate on the other"
        if shared.parted
        else "nnU-Net's folds, which are drawn at random, will part them"
    )
    return (
        f"Warning: {many} pair{'' if many == 1 else 's'} of cases share {shared.lesions} "
        f"lesion{'' if shared.lesions == 1 else 's'} of the very same shape, such as '{one}' and '{two}', and {folds}. "
        "Validation is then on lesions that training has seen. Write folds that keep such cases together: "
        f"{command('splits', dataset=dataset, groups='FILE')}"
    )


def share_text(share: float) -> str:
    """Per cent, with a digit where it is small; `NOTHING` for NaN."""
    if math.isnan(share):
        return NOTHING
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"


def _label_row(label: LabelSummary) -> tuple[str, ...]:
    median, lowest, highest = label.per_case
    undefined = label.num_lesions == 0
    return (
        label.label,
        str(label.num_cases),
        str(label.num_lesions),
        f"{median:g} ({lowest} to {highest})",
        NOTHING if undefined else _volume_text(label.median_volume_mm3),
        NOTHING if undefined else f"{label.gini:.2f}",
        share_text(label.largest_tenth_share),
        share_text(label.border_share),
    )


def _volume_text(volume_mm3: float) -> str:
    return f"{volume_mm3:.0f}" if volume_mm3 >= 100 else f"{volume_mm3:.3g}"


matplotlib.use("agg")


# Of Okabe and Ito's, which the colour-blind can tell apart: small lesions are warm, large ones cold.
SIZE_COLOURS = ("#d55e00", "#e69f00", "#56b4e9", "#0072b2")
_INK, _MUTED, _EQUAL = "#1b1b1a", "#595957", "#b9b9b4"
_BINS_PER_DECADE = 8
_MAX_CURVES = 5
# Shares below are too narrow for their number.
_MIN_WRITTEN = 0.045


def draw_audit(audit: Audit, path: str | Path) -> None:
    """Write a PNG. Colours are size classes, the same in all panels."""
    figure = plt.figure(figsize=(11.5, 8.4))
    grid = figure.add_gridspec(
        2, 3, height_ratios=(1, 1.25), left=0.065, right=0.975, top=0.87, bottom=0.165, hspace=0.36, wspace=0.24
    )
    sizes, lorenz, cases = (figure.add_subplot(grid[0, column]) for column in range(3))
    _draw_sizes(sizes, audit)
    _draw_lorenz(lorenz, audit)
    _draw_cases(cases, audit)
    lower = grid[1, :].subgridspec(1, 3, width_ratios=(0.48, 1.25, 0.34), wspace=0.07)
    shares = figure.add_subplot(lower[0, 1])
    _draw_shares(shares, audit)
    _draw_of_lesions(figure.add_subplot(lower[0, 2], sharey=shares), audit)
    count = sum(len(lesions) for lesions in audit.lesions)
    figure.text(0.02, 0.965, audit.dataset, fontsize=14, weight="bold", va="center")
    figure.text(0.98, 0.965, f"{len(audit.cases)} cases, {count} lesions", fontsize=10, ha="right", va="center")
    handles, texts = shares.get_legend_handles_labels()
    figure.legend(
        handles,
        texts,
        loc="upper left",
        bbox_to_anchor=(0.013, 0.95),
        ncols=4,
        frameon=False,
        fontsize=9,
        handlelength=1,
    )
    figure.text(0.02, 0.088, f"Recommended: {audit.recommendation.trainer}", fontsize=11, weight="bold", va="top")
    reason = raised(audit.recommendation.reason)
    figure.text(
        0.02, 0.062, textwrap.fill(reason[0].upper() + reason[1:], 172), fontsize=8.5, va="top", linespacing=1.35
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_sizes(axis: Axes, audit: Audit) -> None:
    lesions = pooled(audit.lesions)
    logarithms = np.log10(lesions.volume_mm3)
    # Borders of size classes are borders of bins.
    low, high = math.floor(logarithms.min() * _BINS_PER_DECADE), math.floor(logarithms.max() * _BINS_PER_DECADE) + 1
    borders = (10 ** (np.arange(low, high + 1) / _BINS_PER_DECADE)).tolist()
    for position, colour in enumerate(SIZE_COLOURS):
        axis.hist(lesions.volume_mm3[lesions.size_class == position], borders, color=colour, edgecolor="white")
    axis.set(xscale="log", xlabel=f"lesion size in {raised(audit.size_unit)}", ylabel="lesions")
    _title(axis, "How large they are")
    _without_frame(axis)


def _draw_lorenz(axis: Axes, audit: Audit) -> None:
    axis.plot([0, 1], [0, 1], color=_EQUAL, linewidth=1)
    axis.text(0.5, 0.53, "all alike", color=_MUTED, fontsize=8, rotation=45, ha="center", rotation_mode="anchor")
    lesions = pooled(audit.lesions)
    present = [index for index, label in enumerate(audit.labels) if label.num_lesions]
    if len(present) > _MAX_CURVES:
        volumes = {f"{len(present)} labels": lesions.volume_mm3}
    else:
        volumes = {
            f"{audit.labels[index].label}: Gini {audit.labels[index].gini:.2f}": lesions.volume_mm3[
                lesions.label == index
            ]
            for index in present
        }
    dashes = cycle(("solid", "dashed", "dotted", "dashdot", (0, (6, 2))))
    for (name, values), dash in zip(volumes.items(), dashes, strict=False):
        rising = np.append(0, np.cumsum(np.sort(values)))
        axis.plot(np.linspace(0, 1, len(rising)), rising / rising[-1], color=_INK, linestyle=dash, label=name)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="lesions, the smallest first", ylabel="their share of the voxels")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(frameon=False, fontsize=8, loc="upper left", handlelength=2.2)
    _title(axis, "How unequal")
    _without_frame(axis)


def _draw_cases(axis: Axes, audit: Audit) -> None:
    classes = range(len(SIZE_COLOURS))
    counts = np.array([[int((lesions.size_class == size).sum()) for size in classes] for lesions in audit.lesions])
    counts = counts[np.argsort(counts.sum(1), kind="stable")]
    bottom = np.zeros(len(counts))
    for size, colour in enumerate(SIZE_COLOURS):
        axis.bar(np.arange(1, len(counts) + 1), counts[:, size], 1, bottom, color=colour, linewidth=0)
        bottom += counts[:, size]
    axis.set(xlim=(0.5, len(counts) + 0.5), xlabel="cases, by number of lesions", ylabel="lesions")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    _title(axis, "How many per case")
    _without_frame(axis)


def _draw_shares(axis: Axes, audit: Audit) -> None:
    rows = [
        ("lesions", "each counts alike", [size.lesion_share for size in audit.sizes]),
        ("voxels", "each counts alike", [size.voxel_share for size in audit.sizes]),
        *((shares.trainer, shares.loss, shares.by_size) for shares in audit.gradients),
    ]
    places = _places(audit)
    left = np.zeros(len(rows))
    for size, colour in enumerate(SIZE_COLOURS):
        name = size_name(audit.sizes[size].low_mm3, audit.sizes[size].high_mm3, raised(audit.size_unit))
        values = np.nan_to_num([shares[size] for _, _, shares in rows])
        axis.barh(places, values, 0.62, left, color=colour, edgecolor="white", label=name)
        for place, start, value in zip(places, left, values, strict=True):
            if value >= _MIN_WRITTEN:
                dark = size in (1, 2)
                axis.text(
                    start + value / 2,
                    place,
                    share_text(value),
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color=_INK if dark else "white",
                )
        left += values
    axis.set_yticks([])
    for place, (name, note, _) in zip(places, rows, strict=True):
        is_recommended = name == audit.recommendation.trainer
        style: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "ha": "right"}
        axis.text(
            -0.015, place + 0.04, name, va="bottom", weight="bold" if is_recommended else "normal", fontsize=9, **style
        )
        axis.text(-0.015, place - 0.04, note, va="top", color=_MUTED, fontsize=7.5, **style)
    axis.axhline((places[1] + places[2]) / 2, color=_EQUAL, linewidth=0.8)
    axis.set(xlim=(0, 1), ylim=(places[-1] - 0.55, places[0] + 0.55))
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("share of the lesions' gradient, before anything is learned")
    _title(axis, "Who gets the gradient")
    _without_frame(axis)


def _draw_of_lesions(axis: Axes, audit: Audit) -> None:
    places = _places(audit)[2:]
    values = np.nan_to_num([shares.of_lesions for shares in audit.gradients])
    axis.barh(places, values, 0.62, color=_MUTED)
    axis.barh(places, 1 - values, 0.62, values, color="#e9e9e4")
    for place, value in zip(places, values, strict=True):
        axis.text(value + 0.03, place, share_text(float(value)), va="center", fontsize=8.5, color=_INK)
    axis.set(xlim=(0, 1), xlabel="lesions' share of all,\nbackground included")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xticks([0.5, 1])
    axis.tick_params(left=False, labelleft=False)
    _without_frame(axis)


def _places(audit: Audit) -> np.ndarray:
    """Of the rows, the first on top: lesions and voxels, a gap, the trainers."""
    return -np.append([0.0, 1.0], 2.35 + np.arange(len(audit.gradients)))


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=10, loc="left")


def _without_frame(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_fontsize(8.5)
    axis.yaxis.label.set_fontsize(8.5)
