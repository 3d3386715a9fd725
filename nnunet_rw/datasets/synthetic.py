"""Synthetic multi-lesion dataset in Medical Segmentation Decathlon layout, for tests and quick benchmarks."""

import json
import os
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation

from nnunet_rw.util.files import replaced_whole, write_atomically

MARKER = ".nnunet_rw_synthetic"
MEDIAN_LESION_VOXELS, LOG_SIZE_SD, SMALLEST_LESION_VOXELS = 15.0, 2.2, 4.0
LARGEST_LESION_SHARE = 0.05  # of the head
VESSEL_SD_VOXELS = 0.7
NUM_VESSELS, NUM_BLOBS = 3, 3  # both are bright, and none is a lesion


def synthetic_case(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
    mean_lesions: float = 12.0,
) -> tuple[np.ndarray, np.ndarray]:
    """
    One image of a head with bright lesions, vessels and blurry blobs, and the labels of its lesions.

    Lesion sizes are log-normal in voxels (median 15, clipped to 4 voxels and 5 % of the head), whatever the
    spacing, so that small lesions stay small; their shapes are ellipsoids in mm. Lesions may touch and merge.

    Parameters
    ----------
    shape : (X, Y, Z), each at least 16
    spacing_mm : voxel size per array axis
    rng : the only source of randomness, so equal generators give equal cases
    mean_lesions : mean of the Poisson number of lesions; 0 gives no lesion, anything above gives at least one

    Returns
    -------
    image : float32 (X, Y, Z), arbitrary units, exactly 0 outside the head and above 0 inside
    labels : uint8 (X, Y, Z), 1 where more than half of the voxel is lesion, else 0

    Raises
    ------
    ValueError
        If the shape, the spacing or a number is impossible.
    """
    _check(shape, spacing_mm, mean_lesions)
    spacing = np.asarray(spacing_mm, dtype=float)
    half_size_mm = np.asarray(shape) * spacing / 2
    axes_mm = [np.arange(n) * step - (n - 1) * step / 2 for n, step in zip(shape, spacing, strict=True)]
    grid_mm = np.stack(np.meshgrid(*axes_mm, indexing="ij"))
    head_level = _ellipsoid_level(grid_mm, np.zeros(3), half_size_mm * rng.uniform(0.8, 0.9, 3), np.eye(3))
    head = head_level < 1

    labels = np.zeros(shape, dtype=np.uint8)
    signal = np.zeros(shape)  # relative brightening of the tissue
    room = head_level < 0.85  # centres stay off the rim, and off each other
    num_lesions = max(1, rng.poisson(mean_lesions)) if mean_lesions > 0 else 0
    sizes = rng.lognormal(np.log(MEDIAN_LESION_VOXELS), LOG_SIZE_SD, num_lesions)
    sizes = np.clip(sizes, SMALLEST_LESION_VOXELS, LARGEST_LESION_SHARE * head.sum())
    edge_mm = np.prod(spacing) ** (1 / 3)
    # Large first, so that the small ones are placed where they stay lesions of their own.
    for size in np.sort(sizes)[::-1]:
        radius_mm = edge_mm * (3 * size / (4 * np.pi)) ** (1 / 3)
        depth_mm, centre, box = _random_ellipsoid(grid_mm, room, radius_mm, 0.25, 4 * edge_mm, rng)
        cover = np.clip(0.5 - depth_mm / edge_mm, 0, 1) * head[box]
        labels[box] |= (cover > 0.5).astype(np.uint8)
        labels[centre] = 1  # a flat lesion can miss every voxel centre
        signal[box] = np.maximum(signal[box], rng.uniform(0.25, 0.8) * cover)
        room[box] &= depth_mm > 3 * edge_mm
        if not room.any():
            break
    for _ in range(NUM_BLOBS):
        radius_mm = edge_mm * rng.uniform(2, 5)
        depth_mm, _, box = _random_ellipsoid(grid_mm, head_level < 0.85, radius_mm, 0.25, 2 * radius_mm, rng)
        blur = np.exp(-0.5 * ((depth_mm + radius_mm) / (0.7 * radius_mm)) ** 2)
        signal[box] = np.maximum(signal[box], rng.uniform(0.2, 0.5) * blur)
    signal = np.maximum(signal, _vessels(head_level < 0.9, NUM_VESSELS, rng))

    tissue = gaussian_filter(np.where(head_level < 0.75, 1.0, 0.85), 1)
    texture = gaussian_filter(rng.standard_normal(shape), 2)
    noise = 0.05 * texture / texture.std() + 0.05 * rng.standard_normal(shape)
    bias = np.exp(0.15 * zoom(rng.standard_normal((4, 4, 4)), np.asarray(shape) / 4, order=3))
    image = 100 * rng.uniform(0.8, 1.25) * bias * (tissue * (1 + signal) + noise)
    return np.where(head, np.maximum(image, 1), 0).astype(np.float32), labels


def _check(shape, spacing_mm, mean_lesions):
    spacing = np.asarray(spacing_mm, dtype=float)
    if len(shape) != 3 or min(shape) < 16:
        raise ValueError(f"Expected a shape of three axes of at least 16 voxels, but got {tuple(shape)}.")
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise ValueError(f"Expected three positive values in mm as spacing, but got {spacing_mm}.")
    if not (np.isfinite(mean_lesions) and mean_lesions >= 0):
        raise ValueError(f"Expected a number of at least 0, but got {mean_lesions=}.")


def _ellipsoid_level(grid_mm, centre_mm, radii_mm, rotation):
    """Distance from the centre in units of the radius in that direction: 1 on the surface."""
    offset = np.tensordot(rotation, grid_mm - centre_mm.reshape(3, 1, 1, 1), axes=1)
    return np.sqrt(((offset / radii_mm.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))


def _random_ellipsoid(grid_mm, room, radius_mm, log_aspect_sd, margin_mm, rng):
    """Signed distance (mm, approximate) to an ellipsoid, its centre voxel in `room`, the box around it."""
    spacing = grid_mm[:, 1, 1, 1] - grid_mm[:, 0, 0, 0]
    centre = np.asarray(np.unravel_index(rng.choice(np.flatnonzero(room)), room.shape))
    aspect = np.exp(rng.normal(0, log_aspect_sd, 3))
    radii_mm = radius_mm * aspect / np.prod(aspect) ** (1 / 3)
    reach = np.ceil((radii_mm.max() + margin_mm) / spacing).astype(int)
    box = tuple(slice(max(0, c - r), c + r + 1) for c, r in zip(centre, reach, strict=True))
    centre_mm = grid_mm[(slice(None), *centre)] + rng.uniform(-0.3, 0.3, 3) * spacing
    rotation = Rotation.from_quat(rng.standard_normal(4)).as_matrix()  # uniform over all rotations
    level = _ellipsoid_level(grid_mm[(slice(None), *box)], centre_mm, radii_mm, rotation)
    return (level - 1) * radius_mm, tuple(centre), box


def _vessels(room, num_vessels, rng):
    """Thin curved bright tubes: smoothed random walks through `room`."""
    paths = np.zeros(room.shape)
    for _ in range(num_vessels):
        position = np.asarray(np.unravel_index(rng.choice(np.flatnonzero(room)), room.shape), dtype=float)
        direction = rng.standard_normal(3)
        brightness = rng.uniform(0.3, 0.7)
        for _ in range(max(room.shape)):
            voxel = tuple(np.round(position).astype(int))
            if not room[voxel]:  # the head ends before the image does
                break
            paths[voxel] = brightness
            direction += 0.2 * rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            position += direction
    # A line of ones smoothed across its two other axes peaks at 1 / (2 pi sd^2).
    return gaussian_filter(paths, VESSEL_SD_VOXELS) * 2 * np.pi * VESSEL_SD_VOXELS**2


def write_synthetic_dataset(
    folder: str | os.PathLike,
    num_cases: int = 24,
    shape: tuple[int, int, int] = (64, 64, 64),
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    seed: int = 0,
    mean_lesions: float = 12.0,
) -> None:
    """
    Write a dataset that `nnUNetv2_convert_MSD_dataset -i FOLDER` takes.

    One case in twelve (at least one; none below 8 cases) has no lesion. Every case has its own random
    generator, made of `seed` and its number. A folder written before is overwritten and its superfluous cases
    are deleted; `dataset.json` is written last, so a folder that has it is complete.

    Parameters
    ----------
    folder : its name must look like Task99_Name (nnU-Net reads number and name from it); created if missing
    num_cases : at least 1
    shape, spacing_mm, mean_lesions : see `synthetic_case`, in (x, y, z) order
    seed : at least 0

    Raises
    ------
    ValueError
        If the folder has another name or holds what this function did not write, or an option is impossible.
    """
    folder = Path(folder).absolute()
    if not re.fullmatch(r"Task\d{2,3}_[A-Za-z0-9-]+", folder.name):
        raise ValueError(f"Expected a folder named like Task99_SyntheticLesions, but got {folder}.")
    if num_cases < 1 or seed < 0:
        raise ValueError(f"Expected num_cases >= 1 and seed >= 0, but got {num_cases=} and {seed=}.")
    _check(shape, spacing_mm, mean_lesions)
    if folder.exists() and not (folder / MARKER).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds files of something else. Choose a new or empty folder.")
    for subfolder in ("imagesTr", "labelsTr", "imagesTs"):  # nnU-Net insists on imagesTs, even an empty one
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    (folder / "dataset.json").unlink(missing_ok=True)

    names = [f"synthetic_{number:03d}.nii.gz" for number in range(1, num_cases + 1)]
    for old in [*folder.glob("imagesTr/*synthetic_*.nii.gz"), *folder.glob("labelsTr/*synthetic_*.nii.gz")]:
        if old.name not in names:
            old.unlink()
    num_lesion_free = max(1, num_cases // 12) if num_cases >= 8 else 0
    lesion_free = set(np.random.default_rng(seed).permutation(num_cases)[:num_lesion_free].tolist())
    for index, name in enumerate(names):
        lesions = 0.0 if index in lesion_free else mean_lesions
        rng = np.random.default_rng([seed, index])
        image, labels = synthetic_case(shape, spacing_mm, rng, lesions)
        for subfolder, array in (("imagesTr", image), ("labelsTr", labels)):
            volume = sitk.GetImageFromArray(array.transpose(2, 1, 0))
            volume.SetSpacing([float(s) for s in spacing_mm])
            # SimpleITK chooses the format by the ending.
            with replaced_whole(folder / subfolder / name, ".nii.gz") as temporary:
                sitk.WriteImage(volume, str(temporary), useCompression=True)

    description = {
        "name": folder.name.split("_")[1],
        "description": "Synthetic bright lesions of log-normal size in a head of textured noise",
        "reference": "nnunet_rw.datasets.synthetic",
        "licence": "CC0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "lesion"},
        "numTraining": num_cases,
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    write_atomically(folder / "dataset.json", (json.dumps(description, indent=4) + "\n").encode())
