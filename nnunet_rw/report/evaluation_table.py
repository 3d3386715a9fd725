"""An evaluation for the terminal."""

from __future__ import annotations

from typing import Any

from nnunet_rw.report.table import text_table

_METRICS = ("dice", "hd95_mm", "assd_mm", "nsd", "lesion_dice")


def evaluation_text(summary: dict[str, Any]) -> str:
    """What most readers ask first, of the content of summary.json; every mean tells its n."""
    parts = [f"{summary['name']}: {summary['num_cases']} cases"]
    if summary["missing_cases"]:
        parts[0] += f"; {len(summary['missing_cases'])} without prediction left out"
    rows, sizes = [], []
    for label, found in summary["classes"].items():
        rows.append([label, *(_mean(found["metrics"].get(name)) for name in _METRICS)])
        sizes += [
            [label, _range(size), f"{size['num_found']} of {size['num_lesions']}", _recall(size)]
            for size in found["recall_by_size"]
        ]
    parts.append(text_table(("label", "Dice", "HD95 mm", "ASSD mm", "NSD", "Dice of lesions"), rows))
    detections = [
        [
            label,
            f"{_number(rule['recall'])} ({rule['num_found']} of {rule['num_lesions']})",
            _number(rule["precision"]),
            _number(rule["false_positives_per_case"]),
            *(_number(found["panoptic"][threshold]["pq"]) for threshold in ("0.5", "0.1")),
            _number(found.get("froc", {}).get("average_recall")),
        ]
        for label, found in summary["classes"].items()
        for rule in [found["detection"]["any_overlap"]]
    ]
    header = ("label", "lesions found", "precision", "false positives a case", "PQ", "PQ at 0.1", "FROC average")
    parts.append(text_table(header, detections))
    parts.append(text_table(("label", "lesion size", "found", "recall (95 % interval)"), sizes))
    return "\n\n".join(parts)


def _mean(values: dict[str, Any] | None) -> str:
    if values is None or values["mean"] is None:
        return "-"
    penalised = f", {values['n_penalised']} at diagonal" if values["n_penalised"] else ""
    return f"{values['mean']:.3f} (n = {values['n']}{penalised})"


def _range(size: dict[str, Any]) -> str:
    if size["high"] is None:
        return f"from {size['low']:g} mm3"
    return f"{size['low']:g} to {size['high']:g} mm3"


def _recall(size: dict[str, Any]) -> str:
    if size["recall"] is None:
        return "-"
    return f"{size['recall']:.2f} ({size['recall_low']:.2f} to {size['recall_high']:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
