"""Raw datasets, as nnU-Net wants them."""

import json

import numpy as np
import SimpleITK as sitk


def write_raw_dataset(raw, cases, spacing_mm=(3.0, 1.0, 0.5), labels=None, name="Dataset901_Raw", **more):
    """Label files and dataset.json, no images; `cases` are label arrays (X, Y, Z). Returns the dataset's folder."""
    folder = raw / name
    (folder / "labelsTr").mkdir(parents=True)
    for case, values in cases.items():
        image = sitk.GetImageFromArray(np.asarray(values, np.uint8))
        image.SetSpacing(spacing_mm[::-1])
        sitk.WriteImage(image, str(folder / "labelsTr" / f"{case}.nii.gz"))
    content = {
        "channel_names": {"0": "MRI"},
        "labels": labels or {"background": 0, "lesion": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder
