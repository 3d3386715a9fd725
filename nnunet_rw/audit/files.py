"""audit.json and lesions.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_rw.audit.audit import Audit
from nnunet_rw.files import write_atomically

COLUMNS = ("case", "label", "lesion", "voxels", "volume_mm3", "border_voxels", "size_from_mm3")


def write_audit(audit: Audit, folder: Path) -> list[Path]:
    """Write both files.

    audit.json holds what the terminal shows, null for what is undefined or without bound; lesions.csv a row a lesion,
    with the labels of evaluations and the lower bound of its size class. Lesions are numbered within case and label.
    """
    content = {
        "dataset": audit.dataset,
        "labels_from": audit.folder,
        "cases": len(audit.cases),
        "labels": [asdict(label) for label in audit.labels],
        "sizes": [asdict(size) for size in audit.sizes],
        "gradient_patches": audit.num_patches,
        "gradients": [asdict(shares) for shares in audit.gradients],
        "recommendation": asdict(audit.recommendation),
    }
    paths = [folder / "audit.json", folder / "lesions.csv"]
    write_atomically(paths[0], f"{json.dumps(_plain(content), indent=2)}\n".encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case, lesions in zip(audit.cases, audit.lesions, strict=True):
        numbers = [0] * len(audit.label_values)
        for row in range(len(lesions)):
            label = int(lesions.label[row])
            numbers[label] += 1
            writer.writerow(
                (
                    case,
                    audit.label_values[label],
                    numbers[label],
                    int(lesions.voxels[row]),
                    f"{lesions.volume_mm3[row]:.10g}",
                    int(lesions.border_voxels[row]),
                    f"{audit.sizes[lesions.size_class[row]].low_mm3:g}",
                )
            )
    write_atomically(paths[1], text.getvalue().encode())
    return paths


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
