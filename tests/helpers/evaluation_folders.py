"""Evaluation folders as `nnunet-rw evaluate` writes them, from a few values."""

import csv
import json

CASE_COLUMNS = [
    "case label status dice jaccard ppv sensitivity specificity hd_mm hd95_mm assd_mm nsd volume_reference_mm3",
    "volume_prediction_mm3 n_lesions n_hit n_predicted n_false_positive",
]
LESION_COLUMNS = "case label lesion voxels volume_mm3 z_mm y_mm x_mm hit matched dice iou kind"
SETTINGS = {"connectivity": 26, "min_volume_mm3": 0.0, "tolerance_mm": 1.0, "image_diagonal_mm": 100.0}


def write_evaluation(folder, cases, lesions=(), predicted=(), name="nnUNetTrainer", settings=None, **more):
    """Write a folder.

    Parameters
    ----------
    cases : dict of case, or (case, label), to dict of columns
        Label "1" where none is given; columns that are not given are empty cells.
    lesions, predicted : sequences of (case, volume_mm3, hit, matched[, kind[, label]])
        Of 2 mm3 a voxel, numbered in the order given.
    name, more : of summary.json
    settings : dict, over SETTINGS
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for key, columns in cases.items():
        case, label = key if isinstance(key, tuple) else (key, "1")
        rows.append({"case": case, "label": label, "status": "both", **columns})
    _write(folder / "cases.csv", " ".join(CASE_COLUMNS).split(), rows)
    _write(folder / "lesions.csv", LESION_COLUMNS.split(), _lesion_rows(lesions))
    _write(folder / "predicted_lesions.csv", [*LESION_COLUMNS.split(), "score"], _lesion_rows(predicted))
    summary = {"name": name, "settings": {**SETTINGS, **(settings or {})}, **more}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _lesion_rows(lesions):
    for number, (case, volume_mm3, hit, matched, *rest) in enumerate(lesions, start=1):
        kind, label = (*rest, *("matched", "1")[len(rest) :])
        yield {
            "case": case,
            "label": label,
            "lesion": number,
            "voxels": round(volume_mm3 / 2),
            "volume_mm3": volume_mm3,
            "hit": hit,
            "matched": matched,
            "kind": kind,
        }


def _write(path, columns, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
