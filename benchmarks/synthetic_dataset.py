"""A synthetic dataset with nnU-Net's own plans for 3d_fullres, preprocessed by nnU-Net."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_rw.datasets.folders import open_preprocessed
from nnunet_rw.datasets.msd import ensure_converted
from nnunet_rw.datasets.planning import preprocess_with_maps
from nnunet_rw.datasets.synthetic import write_synthetic_dataset

TASK, DATASET = "Task901_Benchmark", "Dataset901_Benchmark"
CONFIGURATION = "3d_fullres"


def prepare(root: str, num_cases: int, shape: Sequence[int], mean_lesions: float = 40.0) -> dict[str, Any]:
    """Write, plan and preprocess it in the folders that the environment names; the slow part is the preprocessing.

    Parameters
    ----------
    root : str
        For the images as they are before.
    num_cases : int
    shape : 3 ints
        Of an image, voxels of 1 mm. The head fills 85 % of each axis, and nnU-Net cuts the rest away.

    Returns
    -------
    dict
        "dataset", "patch_size" and "batch_size" that nnU-Net has planned.
    """
    # With 0 nnU-Net's planning asks torch for no threads at all and fails.
    os.environ.pop("nnUNet_n_proc_DA", None)
    x, y, z = shape
    write_synthetic_dataset(Path(root) / TASK, num_cases, (x, y, z), mean_lesions=mean_lesions)
    processes = str(min(num_cases, os.cpu_count() or 1))
    ensure_converted(Path(root) / TASK, int(processes))
    options = [
        "-d",
        DATASET.removeprefix("Dataset").partition("_")[0],
        "-c",
        CONFIGURATION,
        "--no_pbar",
        "-np",
        processes,
        "-npfp",
        processes,
    ]
    preprocess_with_maps(options, kinds=())
    configuration = open_preprocessed(DATASET, CONFIGURATION).configuration
    return {
        "dataset": DATASET,
        "patch_size": [int(size) for size in configuration.patch_size],
        "batch_size": configuration.batch_size,
    }
