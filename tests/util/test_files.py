import errno
import os

import pytest
import SimpleITK as sitk
from overlay_sources import write_overlays
from segmentation_files import REFERENCE, source_of, write_image

from nnunet_rw.util.files import fingerprint, has_fingerprint, locked, replaced_whole, temporary_path, write_atomically

# The longest case that nnU-Net takes: with _0000.nii.gz its image has a name of 255 characters, a file system's most.
LONGEST_CASE = "c" * 243


@pytest.mark.parametrize("name", ["a.json", f"{LONGEST_CASE}.nii.gz"])
def test_file_is_replaced_whole(tmp_path, name):
    path = tmp_path / "new" / name
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_temporary_name_is_short_and_of_its_own(tmp_path):
    short, long = (temporary_path(tmp_path / f"{case}.b2nd") for case in ("a", LONGEST_CASE))
    assert len(short.name) == len(long.name) < 128
    assert short.parent == long.parent == tmp_path
    assert temporary_path(tmp_path / "a.b2nd") != short


def test_temporary_file_keeps_the_ending_that_a_writer_needs(tmp_path):
    path = tmp_path / f"{LONGEST_CASE}.nii.gz"
    with replaced_whole(path, ".nii.gz") as temporary:
        write_image(temporary, REFERENCE)
        assert not path.exists()
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == REFERENCE).all()
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_torn_is_left_behind(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write():
        with replaced_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


def test_overlays_of_a_case_with_a_long_name(tmp_path):
    # The name of a class, here "lesion", is part of the file's.
    case = "c" * 240
    written = write_overlays(source_of(tmp_path, {case: (REFERENCE, REFERENCE)}), tmp_path / "out")
    assert [path.name for path in written] == [f"{case}_lesion.nii.gz"]


@pytest.mark.parametrize("timed", [True, False])
def test_fingerprint_is_of_the_content_whatever_the_time(tmp_path, timed):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    known = fingerprint(path, timed)
    # BLAKE2b of 16 bytes, by `b2sum -l 128`.
    assert (known["bytes"], known["blake2b"]) == (5, "000afbf3f1f0bdecbb9748dad8b42825")
    assert has_fingerprint(path, known)
    for seconds in (1_000, 4_000_000_000):
        os.utime(path, (seconds, seconds))
        assert has_fingerprint(path, known)
        path.write_bytes(b"12354")
        os.utime(path, (seconds + 1, seconds + 1))
        assert not has_fingerprint(path, known)
        path.write_bytes(b"12345")
    path.write_bytes(b"123456")
    assert not has_fingerprint(path, known)
    path.unlink()
    assert not has_fingerprint(path, known)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_at_once(tmp_path, monkeypatch, error):
    # Before 3.21, filelock tried again for ever.
    def refuse(descriptor, operation):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    told = r"a\.lock cannot be locked .*Move the folder to a file system that has locks"
    with pytest.raises(OSError, match=told), locked(tmp_path / "a.lock"):
        pass
