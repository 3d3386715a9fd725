"""Maps of a case on disk: written, read back, and refused when they are absent, damaged or of something else."""

import pickle
import re
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import references
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from stored_cases import ADVICE, SETTINGS, SHAPE, blobs, expected_map, make_folder, save

from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    MAX_LOCATIONS,
    LabelScheme,
    LesionTable,
    compute_distances,
    compute_lesion_ids,
    lesion_channels,
    list_lesions,
)
from nnunet_rw.store import files as store
from nnunet_rw.store import write
from nnunet_rw.store.files import is_current, lesion_table, map_path, missing_maps, open_map
from nnunet_rw.store.write import write_case


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 3)


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("scheme", "num_labels"),
        [
            (LabelScheme.classes(3), 3),
            (LabelScheme.classes(3, ignore_label=3), 4),
            (LabelScheme(((1, 2, 3), (2, 3), (3,)), regions=True), 4),
        ],
    )
    @pytest.mark.parametrize("two_dimensional", [False, True])
    def test_maps_read_back_are_the_maps_computed(self, folder, scheme, num_labels, two_dimensional):
        labels = blobs(9, num_labels)
        save(folder, "case_0", labels)
        settings = replace(SETTINGS, scheme=scheme)
        if two_dimensional:
            settings = replace(settings, spacing_mm=(1.0, 1.3, 2.5), patch_size=(16, 16), per_slice=True)
        write_case(folder, "case_0", KINDS, settings)
        for kind in KINDS:
            array = open_map(folder, kind, "case_0", settings)
            expected = expected_map(kind, labels, settings)
            assert array.shape == (KINDS[kind].num_channels(scheme), *SHAPE)
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array[:], expected)
            np.testing.assert_array_equal(array[:, 3:9, 20:, 1:2], expected[:, 3:9, 20:, 1:2])
            assert is_current(folder, kind, "case_0", settings)

    def test_lesion_table(self, folder):
        write_case(folder, "case_1", [LESION_IDS], SETTINGS)
        table = lesion_table(open_map(folder, LESION_IDS, "case_1", SETTINGS))
        masks = SETTINGS.scheme.each_mask(blobs(1).clip(0))
        expected = list_lesions(list(lesion_channels(masks, MAX_LOCATIONS)), int(np.prod(SHAPE)))
        assert table.voxels.min() < MAX_LOCATIONS < table.voxels.max()
        for field in fields(LesionTable):
            np.testing.assert_array_equal(getattr(table, field.name), getattr(expected, field.name))
        for name in ("channels", "voxels", "boxes", "starts"):
            assert getattr(table, name).dtype == np.int64
        assert isinstance(table.num_voxels, int)
        _, alone = compute_lesion_ids(blobs(1), SETTINGS.scheme)
        assert (table.voxels.tolist(), table.num_voxels) == (alone.voxels.tolist(), np.prod(SHAPE))

    def test_locations_of_the_lesion_table(self, folder):
        # Of every lesion so many voxels as it has, at most 64; each carries its lesion's id.
        write_case(folder, "case_1", [LESION_IDS], SETTINGS)
        array = open_map(folder, LESION_IDS, "case_1", SETTINGS)
        ids, table = array[:], lesion_table(array)
        assert table.starts[0] == 0
        assert np.diff(table.starts).tolist() == np.minimum(table.voxels, MAX_LOCATIONS).tolist()
        for index, channel in enumerate(table.channels):
            voxels = table.locations[table.starts[index] : table.starts[index + 1]].astype(int)
            assert len(np.unique(voxels, axis=0)) == len(voxels)
            assert np.all(blobs(1)[tuple(voxels.T)] == channel + 1)
            assert np.all(ids[channel][tuple(voxels.T)] == index + 1)
            if table.voxels[index] <= MAX_LOCATIONS:
                lesion = (blobs(1) == channel + 1) & (ids[channel] == index + 1)
                np.testing.assert_array_equal(voxels, np.argwhere(lesion))

    @pytest.mark.parametrize(("size", "dtype"), [(200, np.uint8), (300, np.uint16)])
    def test_locations_are_as_short_as_they_can_be(self, tmp_path, size, dtype):
        # One byte for each axis where none has more than 256 voxels.
        labels = np.zeros((size, 4, 4), np.int8)
        labels[size - 1, 1, 2] = 1
        save_alone(tmp_path, labels)
        write_case(tmp_path, "case_0", [LESION_IDS], SETTINGS)
        table = lesion_table(open_map(tmp_path, LESION_IDS, "case_0", SETTINGS))
        assert table.locations.dtype == dtype
        assert table.locations.tolist() == [[size - 1, 1, 2]]

    def test_case_without_lesion(self, folder):
        save(folder, "case_0", np.zeros(SHAPE, np.int8))
        write_case(folder, "case_0", KINDS, SETTINGS)
        for kind in KINDS:  # one label only: there is no boundary
            assert not open_map(folder, kind, "case_0", SETTINGS)[:].any()
        table = lesion_table(open_map(folder, LESION_IDS, "case_0", SETTINGS))
        assert (len(table), table.boxes.shape, table.locations.shape) == (0, (0, 3, 2), (0, 3))
        assert (table.starts.tolist(), table.num_voxels) == ([0], np.prod(SHAPE))

    def test_types(self, folder):
        write_case(folder, "case_0", KINDS, SETTINGS)
        dtypes = [open_map(folder, kind, "case_0", SETTINGS).dtype for kind in KINDS]
        assert dtypes == [np.float16, np.float16, np.uint16]

    @pytest.mark.parametrize("spacing", [(0.001, 0.002, 0.003), (4e4, 2e4, 5e4)])
    def test_distances_that_float16_does_not_hold_are_float32(self, folder, spacing):
        # Some voxel is more than 65504 away; and of thousandths float16 keeps too few digits.
        settings = replace(SETTINGS, spacing_mm=spacing)
        write_case(folder, "case_0", [BOUNDARY_DISTANCE], settings)
        array = open_map(folder, BOUNDARY_DISTANCE, "case_0", settings)
        assert array.dtype == np.float32
        expected = compute_distances(BOUNDARY_DISTANCE, blobs(0), settings.scheme, spacing)
        np.testing.assert_array_equal(array[:], expected)

    def test_float16_is_close_enough(self, folder):
        # Half a unit in the last of 11 binary digits.
        write_case(folder, "case_0", [BOUNDARY_DISTANCE], SETTINGS)
        exact = compute_distances(BOUNDARY_DISTANCE, blobs(0), SETTINGS.scheme, SETTINGS.spacing_mm)
        np.testing.assert_allclose(open_map(folder, BOUNDARY_DISTANCE, "case_0", SETTINGS)[:], exact, rtol=2**-11)

    def test_map_of_several_chunks(self, tmp_path, monkeypatch):
        labels = references.random_blobs((50, 40, 30), 3, 0).astype(np.int8)
        save_alone(tmp_path, labels)
        # nnU-Net's chunks hold megabytes.
        monkeypatch.setattr(write, "comp_blosc2_params", lambda *_: ((1, 8, 8, 8), (1, 16, 16, 16)))
        write_case(tmp_path, "case_0", KINDS, SETTINGS)
        for kind in KINDS:
            array = open_map(tmp_path, kind, "case_0", SETTINGS)
            assert array.schunk.nchunks > array.shape[0]
            np.testing.assert_array_equal(array[:], expected_map(kind, labels))

    def test_more_lesions_than_uint16_holds(self, tmp_path):
        # Every second voxel along each axis: 41^3 = 68921 lesions of one voxel.
        labels = np.zeros((81, 81, 81), np.int8)
        labels[::2, ::2, ::2] = 1
        save_alone(tmp_path, labels)
        write_case(tmp_path, "case_0", [LESION_IDS], SETTINGS)
        array = open_map(tmp_path, LESION_IDS, "case_0", SETTINGS)
        assert array.dtype == np.uint32
        assert len(lesion_table(array)) == 41**3
        np.testing.assert_array_equal(array[:], expected_map(LESION_IDS, labels))

    @pytest.mark.parametrize("kind", [INTERIOR_DISTANCE, BOUNDARY_DISTANCE])
    def test_compact_is_smaller_and_the_same(self, tmp_path, kind):
        # An organ and blocks as large as patches have them: noise in small blocks is as long either way.
        settings = replace(SETTINGS, patch_size=(64, 64, 64))
        labels = (np.linalg.norm(np.indices((70, 80, 60)) - 30, axis=0) < 25).astype(np.int8)
        save_alone(tmp_path, labels)
        sizes = []
        for compact in (False, True):
            write_case(tmp_path, "case_0", [kind], settings, compact)
            sizes.append(map_path(tmp_path, kind, "case_0", settings).stat().st_size)
            array = open_map(tmp_path, kind, "case_0", settings)
            np.testing.assert_array_equal(array[:], expected_map(kind, labels))
            assert is_current(tmp_path, kind, "case_0", settings)
        assert sizes[1] < 0.9 * sizes[0]


def save_alone(folder, labels):
    """As `save`, of any shape, in a folder of its own."""
    whole = (1, *labels.shape)
    nnUNetDatasetBlosc2.save_case(
        np.zeros(whole, np.float32), labels[None], {}, str(folder / "case_0"), chunks=whole, blocks=whole
    )


class TestFolders:
    def test_a_folder_for_each_kind_and_its_settings(self, folder):
        path = map_path(folder, BOUNDARY_DISTANCE, "case_1", SETTINGS)
        name = SETTINGS.folder_name(BOUNDARY_DISTANCE)
        assert path == folder / "rw_maps" / BOUNDARY_DISTANCE / name / "case_1.b2nd"
        assert re.fullmatch(r"[0-9a-f]{8}", name)
        assert len({SETTINGS.folder_name(kind) for kind in KINDS}) == 3

    def test_other_settings_leave_the_map_as_it_is(self, folder):
        others = [
            replace(SETTINGS, spacing_mm=(0.7, 1.3, 2.6)),
            replace(SETTINGS, per_slice=True),
            replace(SETTINGS, scheme=LabelScheme.classes(4)),
            replace(SETTINGS, scheme=LabelScheme.classes(3, ignore_label=3)),
            replace(SETTINGS, case_axes=(0, 1, 2)),
        ]
        names = {settings.folder_name(INTERIOR_DISTANCE) for settings in (SETTINGS, *others)}
        assert len(names) == 6
        for settings in (SETTINGS, *others[:-1]):  # the last needs a spacing of the case's own
            write_case(folder, "case_0", [INTERIOR_DISTANCE], settings)
        for settings in (SETTINGS, *others[:-1]):
            array = open_map(folder, INTERIOR_DISTANCE, "case_0", settings)
            np.testing.assert_array_equal(array[:], expected_map(INTERIOR_DISTANCE, blobs(0), settings))

    def test_lesions_of_any_spacing_are_in_one_folder(self):
        for other in ({"spacing_mm": (1, 1, 1)}, {"per_slice": True}, {"patch_size": (8, 8)}, {"case_axes": (2, 0, 1)}):
            assert replace(SETTINGS, **other).folder_name(LESION_IDS) == SETTINGS.folder_name(LESION_IDS)
        other = replace(SETTINGS, scheme=LabelScheme.classes(4))
        assert other.folder_name(LESION_IDS) != SETTINGS.folder_name(LESION_IDS)


class TestOwnSpacing:
    """Plans that do not resample: every case keeps the spacing that its properties hold, in the order of its axes."""

    settings = replace(SETTINGS, case_axes=(2, 0, 1))

    @staticmethod
    def give(folder, case, spacing):
        (folder / f"{case}.pkl").write_bytes(pickle.dumps({"spacing": spacing}))

    def test_spacing_of_a_case(self, folder):
        self.give(folder, "case_0", [3.0, 1.0, 0.5])
        assert self.settings.spacing_of(folder, "case_0") == (0.5, 3.0, 1.0)
        # Within slices, their own distance says nothing.
        assert replace(self.settings, per_slice=True).spacing_of(folder, "case_0") == (1.0, 3.0, 1.0)
        # Of plans that resample all have one, whatever the properties say.
        assert SETTINGS.spacing_of(folder, "case_0") == SETTINGS.spacing_mm

    @pytest.mark.parametrize("content", [None, b"torn", pickle.dumps({}), pickle.dumps({"spacing": [1.0, 2.0]})])
    def test_spacing_that_cannot_be_read(self, folder, content):
        path = folder / "case_0.pkl"
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises((ValueError, FileNotFoundError), match=r"case_0\.pkl.* Run: nnUNetv2_preprocess -d 7 "):
            self.settings.spacing_of(folder, "case_0")

    def test_properties_that_would_run_code_are_refused(self, folder):
        (folder / "case_0.pkl").write_bytes(b"cbuiltins\nexec\n(S'raise SystemExit'\ntR.")
        with pytest.raises(ValueError, match=r"case_0\.pkl names builtins\.exec, which reading it would call"):
            self.settings.spacing_of(folder, "case_0")

    @pytest.mark.parametrize("per_slice", [False, True])
    def test_maps_are_of_each_cases_own_spacing(self, folder, per_slice):
        settings = replace(self.settings, per_slice=per_slice)
        for case, spacing in (("case_0", [3.0, 1.0, 0.5]), ("case_1", [2.0, 0.25, 4.0])):
            self.give(folder, case, spacing)
            write_case(folder, case, KINDS, settings)
        for number, spacing in enumerate([(0.5, 3.0, 1.0), (4.0, 2.0, 0.25)]):
            for kind in KINDS:
                array = open_map(folder, kind, f"case_{number}", settings)
                expected = expected_map(kind, blobs(number), replace(settings, spacing_mm=spacing))
                np.testing.assert_array_equal(array[:], expected)

    def test_a_map_of_a_spacing_that_the_case_no_longer_has_is_refused(self, folder):
        self.give(folder, "case_0", [3.0, 1.0, 0.5])
        write_case(folder, "case_0", KINDS, self.settings)
        assert missing_maps(folder, ["case_0"], KINDS, self.settings) == {}
        self.give(folder, "case_0", [3.0, 1.0, 0.25])
        # A lesion is one at any spacing.
        kinds = [INTERIOR_DISTANCE, BOUNDARY_DISTANCE]
        assert missing_maps(folder, ["case_0"], KINDS, self.settings) == {"case_0": kinds}
        message = r"of another spacing \(\[0\.5, 3\.0, 1\.0\]\) than expected \(\[0\.25, 3\.0, 1\.0\]\)"
        with pytest.raises(ValueError, match=message):
            open_map(folder, INTERIOR_DISTANCE, "case_0", self.settings)

    def test_plans_say_whether_cases_keep_their_spacing(self, make_dataset):
        labels = np.zeros((16, 18, 20), np.int16)
        labels[4:8, 4:8, 4:8] = 1
        configurations = {
            "3d_fullres": {"spacing": (3.0, 1.0, 0.5), "resampling_fn_seg": "no_resampling_hack"},
            "2d": {"spacing": (1.0, 0.5), "patch_size": (16, 16), "resampling_fn_seg": "no_resampling_hack"},
            "3d_resampled": {"spacing": (3.0, 1.0, 0.5)},
        }
        dataset = make_dataset({"a": labels, "b": labels}, configurations=configurations)
        dataset.plans["transpose_forward"] = [2, 0, 1]
        settings = {name: dataset.settings(name) for name in configurations}
        assert [settings[name].case_axes for name in configurations] == [(2, 0, 1), (2, 0, 1), None]
        assert settings["3d_resampled"].spacing_mm == (3.0, 1.0, 0.5)
        # The properties have the axes of the image file.
        assert settings["3d_fullres"].spacing_of(dataset.data_folder(), "a") == (0.5, 3.0, 1.0)
        assert settings["2d"].spacing_of(dataset.data_folder("2d"), "a") == (1.0, 1.0, 1.0)


class TestWhatAMapSaysOfItself:
    """A file under a name that is not its own, as when folders are copied by hand."""

    @pytest.fixture
    def move(self, folder):
        """Function that writes a map and copies it to where another is expected."""

        def move(kind, settings, other_kind=None, case="case_0"):
            write_case(folder, "case_0", [INTERIOR_DISTANCE], SETTINGS)
            path = map_path(folder, other_kind or kind, case, settings)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(map_path(folder, kind, "case_0", SETTINGS), path)

        return move

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (
                {"spacing_mm": (0.7, 1.3, 2.6)},
                r"another spacing \(\[0\.7, 1\.3, 2\.5\]\) than expected \(\[0\.7, 1\.3, 2\.6\]\)",
            ),
            ({"per_slice": True}, r"another per slice \(False\) than expected \(True\)"),
            (
                {"scheme": LabelScheme.classes(4)},
                r"another scheme \(.*\[\[1\], \[2\]\].*\) than expected \(.*\[3\].*\)",
            ),
        ],
    )
    def test_other_settings(self, folder, move, changed, message):
        settings = replace(SETTINGS, **changed)
        move(INTERIOR_DISTANCE, settings)
        assert not is_current(folder, INTERIOR_DISTANCE, "case_0", settings)
        with pytest.raises(ValueError, match=rf"Map file .*case_0\.b2nd is of {message}\. {ADVICE}"):
            open_map(folder, INTERIOR_DISTANCE, "case_0", settings)

    def test_other_kind(self, folder, move):
        move(INTERIOR_DISTANCE, SETTINGS, other_kind=BOUNDARY_DISTANCE)
        message = r"of another kind \(interior_distance\) than expected \(boundary_distance\)"
        with pytest.raises(ValueError, match=message):
            open_map(folder, BOUNDARY_DISTANCE, "case_0", SETTINGS)

    def test_other_version(self, folder, monkeypatch):
        write_case(folder, "case_0", [INTERIOR_DISTANCE], SETTINGS)
        path = map_path(folder, INTERIOR_DISTANCE, "case_0", SETTINGS)
        monkeypatch.setattr(store, "FORMAT_VERSION", store.FORMAT_VERSION + 1)
        with pytest.raises(FileNotFoundError):
            open_map(folder, INTERIOR_DISTANCE, "case_0", SETTINGS)
        moved = map_path(folder, INTERIOR_DISTANCE, "case_0", SETTINGS)
        moved.parent.mkdir()
        shutil.copyfile(path, moved)
        version = store.FORMAT_VERSION
        with pytest.raises(ValueError, match=rf"another version \({version - 1}\) than expected \({version}\)"):
            open_map(folder, INTERIOR_DISTANCE, "case_0", SETTINGS)

    def test_other_case(self, folder, move):
        move(INTERIOR_DISTANCE, SETTINGS, case="case_1")
        with pytest.raises(ValueError, match="is of another segmentation"):
            open_map(folder, INTERIOR_DISTANCE, "case_1", SETTINGS)

    def test_other_segmentation(self, folder):
        write_case(folder, "case_0", KINDS, SETTINGS)
        save(folder, "case_0", blobs(50))
        for kind in KINDS:
            assert not is_current(folder, kind, "case_0", SETTINGS)
            with pytest.raises(ValueError, match=rf"case_0\.b2nd is of another segmentation .*\. {ADVICE}"):
                open_map(folder, kind, "case_0", SETTINGS)
            # Unasked it is opened as it is.
            array = open_map(folder, kind, "case_0", SETTINGS, check=False)
            np.testing.assert_array_equal(array[:], expected_map(kind, blobs(0)))
        save(folder, "case_0", blobs(0))
        assert missing_maps(folder, ["case_0"], KINDS, SETTINGS) == {}

    def test_no_segmentation(self, folder):
        write_case(folder, "case_0", [LESION_IDS], SETTINGS)
        (folder / "case_0_seg.b2nd").unlink()
        with pytest.raises(FileNotFoundError, match=r"No segmentation of case 'case_0' in .* Run: nnUNetv2_preprocess"):
            open_map(folder, LESION_IDS, "case_0", SETTINGS)


class TestErrors:
    def test_missing_map(self, folder):
        message = rf"No lesion_ids map for case 'case_1' in .*lesion_ids/[0-9a-f]{{8}}\. {ADVICE}"
        with pytest.raises(FileNotFoundError, match=message):
            open_map(folder, LESION_IDS, "case_1", SETTINGS)

    def test_map_of_distances_lists_no_lesions(self, folder):
        write_case(folder, "case_0", [INTERIOR_DISTANCE], SETTINGS)
        array = open_map(folder, INTERIOR_DISTANCE, "case_0", SETTINGS)
        with pytest.raises(ValueError, match=r"Map file .*case_0\.b2nd is damaged\. Delete it"):
            lesion_table(array)

    def test_advice_names_what_the_settings_tell_and_nothing_else(self, tmp_path):
        folder = tmp_path / "Dataset007_Blobs" / "nnUNetPlans_3d_fullres"
        settings = replace(SETTINGS, plans_name="my_plans_v2", configuration_name="3d_lowres")
        with pytest.raises(FileNotFoundError, match=r"-d Dataset007_Blobs -c 3d_lowres -p my_plans_v2$"):
            open_map(folder, LESION_IDS, "case_1", settings)
        with pytest.raises(FileNotFoundError, match=r"Run: nnunet-rw maps -d Dataset007_Blobs$"):
            open_map(folder, LESION_IDS, "case_1", replace(settings, plans_name=None, configuration_name=None))

    def test_array_without_metadata(self, folder):
        path = map_path(folder, LESION_IDS, "case_1", SETTINGS)
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / "case_1_seg.b2nd").read_bytes())
        with pytest.raises(ValueError, match="is damaged"):
            open_map(folder, LESION_IDS, "case_1", SETTINGS)
