"""Preprocessed cases with lesions, what their maps should be, and processes that write them."""

import os
import subprocess
import sys

import numpy as np
import references
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_rw.maps.kinds import KINDS, LESION_IDS, LabelScheme, compute_distances, compute_lesion_ids
from nnunet_rw.store.files import MapSettings, missing_maps, open_map
from nnunet_rw.store.write import list_cases

SHAPE = (20, 24, 16)
SETTINGS = MapSettings(
    LabelScheme.classes(3),
    spacing_mm=(0.7, 1.3, 2.5),
    patch_size=(16, 16, 16),
    per_slice=False,
    plans_name="my_plans",
    configuration_name="3d_fullres",
)
# What errors say of the folder that `make_folder` makes.
ADVICE = "Run: nnunet-rw maps -d Dataset007_Blobs -c 3d_fullres -p my_plans"


def blobs(seed, num_classes=3):
    """As nnU-Net stores a segmentation: int8, -1 outside the non-zero crop."""
    labels = references.random_blobs(SHAPE, num_classes, seed).astype(np.int8)
    labels[:2] = -1
    return labels


def save(folder, case, labels):
    """Write a case as nnU-Net's preprocessing does, in one chunk."""
    whole = (1, *SHAPE)
    for path in folder.glob(f"{case}*.b2nd"):  # blosc2 does not overwrite
        path.unlink()
    image = np.zeros(whole, np.float32)
    nnUNetDatasetBlosc2.save_case(image, labels[None], {}, str(folder / case), chunks=whole, blocks=whole)


def make_folder(root, num_cases):
    """A preprocessed dataset of case_0, case_1 and so on, each with the labels of its number."""
    folder = root / "Dataset007_Blobs" / "nnUNetPlans_3d_fullres"
    folder.mkdir(parents=True)
    for number in range(num_cases):
        save(folder, f"case_{number}", blobs(number))
    return folder


def expected_map(kind, labels, settings=SETTINGS):
    """A map in the type in which it is stored, computed at once; of cases that do not keep a spacing of their own."""
    if kind == LESION_IDS:
        return compute_lesion_ids(labels, settings.scheme)[0]
    distances = compute_distances(kind, labels, settings.scheme, settings.spacing_mm, settings.per_slice)
    return distances.astype(np.float16)


def assert_whole(folder, num_cases, kinds=KINDS):
    """The first cases have maps that are the maps of their labels."""
    for number in range(num_cases):
        for kind in kinds:
            array = open_map(folder, kind, f"case_{number}", SETTINGS)
            np.testing.assert_array_equal(array[:], expected_map(kind, blobs(number)))


def assert_all_current(folder, kinds=KINDS):
    """Every case has its maps, and no temporary file is left."""
    assert missing_maps(folder, list_cases(folder), kinds, SETTINGS) == {}
    assert not temporary_files(folder)


def file_name(kind, case, settings=SETTINGS):
    """Of a map, within the folder of all maps."""
    return f"{kind}/{settings.folder_name(kind)}/{case}.b2nd"


def files_of(folder):
    """Every file of the maps, with its time of writing and inode; the lock is none."""
    paths = sorted(path for path in (folder / "rw_maps").rglob("*") if path.is_file() and path.name != ".lock")
    return {
        path.relative_to(folder / "rw_maps").as_posix(): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths
    }


def stamps(folder):
    """When each map was written, by kind and case; all have the same settings."""
    paths = (folder / "rw_maps").glob("*/*/*.b2nd")
    return {f"{path.parents[1].name}/{path.stem}": path.stat().st_mtime_ns for path in paths}


def temporary_files(folder):
    return list((folder / "rw_maps").rglob("*.tmp"))


def failing(error_number, after=0):
    """A function that works a number of times and then fails as the file system does."""
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise OSError(error_number, os.strerror(error_number))

    return fail


def start_writer(folder, kinds, part=None, preparation=""):
    """A process that is ready to write maps, and waits for a line on its standard input.

    It prints the number of cases written, or the error of the file system.
    """
    options = f"num_processes=1, log=lambda text: None, part={part!r}"
    lines = [
        "import os, sys, time",
        "from nnunet_rw.maps.kinds import LabelScheme",
        "from nnunet_rw.store.files import MapSettings",
        "from nnunet_rw.store.write import ensure_maps",
        *(line.strip() for line in preparation.strip().splitlines()),
        "print('ready', flush=True)",
        "sys.stdin.readline()",
        "try:",
        f"    print(ensure_maps({str(folder)!r}, {list(kinds)!r}, {SETTINGS!r}, {options}))",
        "except OSError as error:",
        "    print(error)",
    ]
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_after(num_files):
    """A writer's preparation: after so many files it stops for good, in the middle of the next."""
    return f"""
        synchronise, calls = os.fsync, []
        stop = lambda: (print('in the middle', flush=True), time.sleep(60))
        os.fsync = lambda file: (calls.append(file), synchronise(file), len(calls) == {num_files} + 1 and stop())
    """


def let_go(*writers):
    """Let writers begin at the same moment, when all are ready."""
    for writer in writers:
        while (line := writer.stdout.readline()) != "ready\n":
            assert line, writer.stderr.read()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
