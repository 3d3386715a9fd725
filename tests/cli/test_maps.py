"""`nnunet-rw maps`: what is written, and what is left alone."""

import re

import pytest

from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, KINDS, LESION_IDS
from nnunet_rw.store.files import is_current, map_path

SHAPE, SPACING_MM = (18, 20, 24), (3.0, 1.0, 0.5)


def test_maps_are_written_once(dataset, succeeds, maps_of):
    assert succeeds("maps", "-d", "900").endswith(
        f"{dataset.name} 3d_fullres: maps of 3 cases written, all are current\n"
    )
    first = maps_of(dataset.data_folder())
    assert set(first) == {f"{kind}/case_{i}" for kind in (INTERIOR_DISTANCE, LESION_IDS) for i in range(3)}
    for name in first:
        assert is_current(dataset.data_folder(), *name.split("/"), dataset.settings())

    assert succeeds("maps", "-d", dataset.name, "-c", "3d_fullres", "-np", "1") == (
        f"{dataset.name} 3d_fullres: maps of 0 cases written, all are current\n"
    )
    assert maps_of(dataset.data_folder()) == first


def test_maps_overwrite(dataset, succeeds, maps_of):
    succeeds("maps", "-d", "900", "--kind", BOUNDARY_DISTANCE)
    first = maps_of(dataset.data_folder())
    # Of two classes it is the interior distance.
    assert set(first) == {f"{INTERIOR_DISTANCE}/case_{i}" for i in range(3)}
    assert "maps of 3 cases written" in succeeds("maps", "-d", "900", "--kind", BOUNDARY_DISTANCE, "--overwrite")
    second = maps_of(dataset.data_folder())
    assert all(second[name] > first[name] for name in first)


def test_maps_writes_only_what_is_missing(dataset, succeeds, maps_of):
    succeeds("maps", "-d", "900")
    first = maps_of(dataset.data_folder())
    damaged = map_path(dataset.data_folder(), LESION_IDS, "case_2", dataset.settings())
    damaged.write_bytes(damaged.read_bytes()[:100])
    map_path(dataset.data_folder(), INTERIOR_DISTANCE, "case_0", dataset.settings()).unlink()
    assert "maps of 2 cases written" in succeeds("maps", "-d", "900")
    second = maps_of(dataset.data_folder())
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {f"{LESION_IDS}/case_2", f"{INTERIOR_DISTANCE}/case_0"}


def test_maps_of_all_kinds_and_configurations(make_dataset, blobs, succeeds, maps_of):
    configurations = {"2d": {"patch_size": (16, 16), "spacing": (1.0, 0.5)}, "3d_fullres": {"spacing": SPACING_MM}}
    cases = {case: blobs(SHAPE, seed, num_classes=3) for seed, case in enumerate("ab")}
    dataset = make_dataset(cases, {"background": 0, "one": 1, "two": 2}, configurations=configurations)
    lines = succeeds("maps", "-d", "900", "--kind", "all").splitlines()
    assert [line for line in lines if "written" in line] == [
        f"{dataset.name} {name}: maps of 2 cases written, all are current" for name in configurations
    ]
    for name in configurations:
        assert set(maps_of(dataset.data_folder(name))) == {f"{kind}/{case}" for kind in KINDS for case in "ab"}


def test_maps_of_several_datasets(make_dataset, blobs, succeeds):
    for number in (901, 902):
        make_dataset({"a": blobs(SHAPE), "b": blobs(SHAPE, seed=1)}, name=f"Dataset{number}_Small")
    text = succeeds("maps", "-d", "901", "902", "--kind", LESION_IDS)
    assert re.findall(r"^(Dataset90\d)_Small 3d_fullres: maps of 2", text, re.MULTILINE) == ["Dataset901", "Dataset902"]


def test_maps_in_parts(dataset, succeeds, maps_of):
    first = succeeds("maps", "-d", "900", "--num-parts", "2", "--part-id", "0")
    assert first.endswith(f"{dataset.name} 3d_fullres: maps of 2 cases written, part 0 of 2 is current\n")
    written = maps_of(dataset.data_folder())
    assert {name.split("/")[1] for name in written} == {"case_0", "case_2"}

    # nnUNetv2_predict's spelling.
    assert "maps of 1 cases written, part 1 of 2" in succeeds("maps", "-d", "900", "-num_parts", "2", "-part_id", "1")
    both = maps_of(dataset.data_folder())
    assert {name: both[name] for name in written} == written
    assert succeeds("maps", "-d", "900").endswith("maps of 0 cases written, all are current\n")


def test_maps_of_a_part_without_cases(dataset, succeeds, maps_of):
    text = succeeds("maps", "-d", "900", "--num-parts", "5", "--part-id", "4", "--overwrite")
    assert text.endswith("maps of 0 cases written, part 4 of 5 is current\n")
    assert maps_of(dataset.data_folder()) == {}


@pytest.mark.parametrize("given", [("--num-parts", "2"), ("--part-id", "0")])
def test_maps_of_half_a_part(dataset, fails, given):
    assert fails("maps", "-d", "900", *given).startswith("Give both --num-parts and --part-id, such as --num-parts 4")


@pytest.mark.parametrize("part", ["2", "-1"])
def test_maps_of_a_part_that_is_none(dataset, fails, maps_of, part):
    expected = f"Expected --part-id from 0 to 1, counted from 0, but got {part}."
    assert fails("maps", "-d", "900", "--num-parts", "2", "--part-id", part) == expected
    assert maps_of(dataset.data_folder()) == {}
