"""A small dataset for commands."""

from pathlib import Path

import pytest

from nnunet_rw.store.files import FOLDER_NAME

SHAPE, SPACING_MM = (18, 20, 24), (3.0, 1.0, 0.5)


@pytest.fixture
def dataset(make_dataset, blobs):
    cases = {f"case_{number}": blobs(SHAPE, seed=number) for number in range(3)}
    return make_dataset(cases, configurations={"3d_fullres": {"spacing": SPACING_MM}})


@pytest.fixture
def maps_of():
    """Function that returns a folder's map files by kind and case, with the time at which they were written.

    All are of the same settings.
    """

    def read(data_folder):
        files = Path(data_folder, FOLDER_NAME).glob("*/*/*.b2nd")
        return {f"{path.parents[1].name}/{path.stem}": path.stat().st_mtime_ns for path in files}

    return read
