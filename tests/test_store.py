"""Maps of a case on disk: written, read back, and refused when they are absent or damaged."""

from dataclasses import replace

import numpy as np
import pytest
import references
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from stored_cases import ADVICE, SETTINGS, SHAPE, blobs, expected_map, make_folder, save

from nnunet_rw import compression, store
from nnunet_rw.maps.kinds import (
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    SIGNED_DISTANCE,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
)
from nnunet_rw.store import is_current, lesion_table, map_path, open_map, write_case


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
            array, metadata = open_map(folder, kind, "case_0")
            expected = expected_map(kind, labels, settings)
            assert array.shape == (scheme.num_channels(kind), *SHAPE)
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array[:], expected)
            np.testing.assert_array_equal(array[:, 3:9, 20:, 1:2], expected[:, 3:9, 20:, 1:2])
            assert metadata["version"] == store.FORMAT_VERSION
            assert is_current(folder, kind, "case_0", settings)

    def test_lesion_table(self, folder):
        write_case(folder, "case_1", [LESION_IDS], SETTINGS)
        table = lesion_table(open_map(folder, LESION_IDS, "case_1")[1])
        _, expected = compute_lesion_ids(blobs(1), SETTINGS.scheme)
        assert len(table) > 2
        for name in ("channels", "voxels", "boxes"):
            stored, computed = getattr(table, name), getattr(expected, name)
            assert stored.dtype == computed.dtype == np.int64
            np.testing.assert_array_equal(stored, computed)
        assert table.num_voxels == expected.num_voxels == np.prod(SHAPE)

    def test_case_without_lesion(self, folder):
        save(folder, "case_0", np.zeros(SHAPE, np.int8))
        write_case(folder, "case_0", KINDS, SETTINGS)
        array, metadata = open_map(folder, LESION_IDS, "case_0")
        assert not array[:].any()
        assert lesion_table(metadata).boxes.shape == (0, 3, 2)
        # One label only: the diagonal of the volume.
        diagonal = np.linalg.norm(np.multiply(SHAPE, SETTINGS.spacing_mm))
        np.testing.assert_allclose(open_map(folder, INTERIOR_DISTANCE, "case_0")[0][:], diagonal, rtol=1e-3)

    def test_types(self, folder):
        write_case(folder, "case_0", KINDS, SETTINGS)
        dtypes = [open_map(folder, kind, "case_0")[0].dtype for kind in KINDS]
        assert dtypes == [np.float16, np.float16, np.uint16]

    @pytest.mark.parametrize("spacing", [(0.001, 0.002, 0.003), (4e4, 2e4, 5e4)])
    def test_distances_that_float16_does_not_hold_are_float32(self, folder, spacing):
        # Some voxel is more than 65504 away; and of thousandths float16 keeps too few digits.
        settings = replace(SETTINGS, spacing_mm=spacing)
        write_case(folder, "case_0", [SIGNED_DISTANCE], settings)
        array, _ = open_map(folder, SIGNED_DISTANCE, "case_0")
        assert array.dtype == np.float32
        expected = compute_distances(SIGNED_DISTANCE, blobs(0), settings.scheme, spacing)
        np.testing.assert_array_equal(array[:], expected)

    def test_float16_is_close_enough(self, folder):
        # Half a unit in the last of 11 binary digits.
        write_case(folder, "case_0", [SIGNED_DISTANCE], SETTINGS)
        exact = compute_distances(SIGNED_DISTANCE, blobs(0), SETTINGS.scheme, SETTINGS.spacing_mm)
        np.testing.assert_allclose(open_map(folder, SIGNED_DISTANCE, "case_0")[0][:], exact, rtol=2**-11)

    def test_map_of_several_chunks(self, tmp_path, monkeypatch):
        labels = references.random_blobs((50, 40, 30), 3, 0).astype(np.int8)
        whole = (1, *labels.shape)
        nnUNetDatasetBlosc2.save_case(
            np.zeros(whole, np.float32), labels[None], {}, str(tmp_path / "case_0"), chunks=whole, blocks=whole
        )
        # nnU-Net's chunks hold megabytes.
        monkeypatch.setattr(compression, "comp_blosc2_params", lambda *_: ((1, 8, 8, 8), (1, 16, 16, 16)))
        write_case(tmp_path, "case_0", KINDS, SETTINGS)
        for kind in KINDS:
            array, _ = open_map(tmp_path, kind, "case_0")
            assert array.schunk.nchunks > array.shape[0]
            np.testing.assert_array_equal(array[:], expected_map(kind, labels))

    def test_more_lesions_than_uint16_holds(self, tmp_path):
        # Every second voxel along each axis: 41^3 = 68921 lesions of one voxel.
        labels = np.zeros((81, 81, 81), np.int8)
        labels[::2, ::2, ::2] = 1
        whole = (1, *labels.shape)
        nnUNetDatasetBlosc2.save_case(
            np.zeros(whole, np.float32), labels[None], {}, str(tmp_path / "case_0"), chunks=whole, blocks=whole
        )
        write_case(tmp_path, "case_0", [LESION_IDS], SETTINGS)
        array, metadata = open_map(tmp_path, LESION_IDS, "case_0")
        assert array.dtype == np.uint32
        assert len(lesion_table(metadata)) == 41**3
        np.testing.assert_array_equal(array[:], expected_map(LESION_IDS, labels))

    @pytest.mark.parametrize("kind", [INTERIOR_DISTANCE, SIGNED_DISTANCE])
    def test_compact_is_smaller_and_the_same(self, tmp_path, kind):
        # An organ and blocks as large as patches have them: noise in small blocks is as long either way.
        settings = replace(SETTINGS, patch_size=(64, 64, 64))
        labels = (np.linalg.norm(np.indices((70, 80, 60)) - 30, axis=0) < 25).astype(np.int8)
        whole = (1, *labels.shape)
        nnUNetDatasetBlosc2.save_case(
            np.zeros(whole, np.float32), labels[None], {}, str(tmp_path / "case_0"), chunks=whole, blocks=whole
        )
        sizes = []
        for compact in (False, True):
            write_case(tmp_path, "case_0", [kind], settings, compact)
            sizes.append(map_path(tmp_path, kind, "case_0").stat().st_size)
            np.testing.assert_array_equal(open_map(tmp_path, kind, "case_0")[0][:], expected_map(kind, labels))
            assert is_current(tmp_path, kind, "case_0", settings)
        assert sizes[1] < 0.9 * sizes[0]


class TestErrors:
    def test_missing_map(self, folder):
        with pytest.raises(FileNotFoundError, match=rf"No lesion_ids map for case 'case_1' in .*lesion_ids\. {ADVICE}"):
            open_map(folder, LESION_IDS, "case_1")

    def test_advice_names_plans_that_are_not_the_default(self, tmp_path):
        folder = tmp_path / "Dataset007_Blobs" / "nnUNetResEncUNetLPlans_3d_lowres"
        with pytest.raises(FileNotFoundError, match="-d Dataset007_Blobs -c 3d_lowres -p nnUNetResEncUNetLPlans"):
            open_map(folder, LESION_IDS, "case_1")

    def test_array_without_metadata(self, folder):
        path = map_path(folder, LESION_IDS, "case_1")
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / "case_1_seg.b2nd").read_bytes())
        with pytest.raises(ValueError, match="is damaged"):
            open_map(folder, LESION_IDS, "case_1")
