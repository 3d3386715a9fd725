"""`nnunet-rw audit`: what it prints and writes, and its refusals."""

import gzip

import numpy as np
import pytest
from audit_datasets import write_raw_dataset

from nnunet_rw.audit import audit as audit_module
from nnunet_rw.cli import main


@pytest.fixture(autouse=True)
def few_patches(monkeypatch):
    monkeypatch.setattr(audit_module, "PATCH_PAIRS", 2)


@pytest.fixture
def raw(nnunet, blobs):
    cases = {f"case_{number}": blobs((18, 20, 24), seed=number) for number in range(3)}
    return write_raw_dataset(nnunet.root / "nnUNet_raw", cases)


def test_audit_of_raw_labels_is_written_here(raw, succeeds, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = succeeds("audit", "-d", "901").splitlines()
    assert lines[0].startswith("Dataset901_Raw: ")
    assert lines[0].endswith(f" lesions in 3 cases of {raw / 'labelsTr'}")
    assert any(line.startswith("Recommended: ") for line in lines)
    files = [f"audit_Dataset901_Raw/{name}" for name in ("audit.png", "audit.json", "lesions.csv")]
    assert lines[-3:] == files
    for file in files:
        assert (tmp_path / file).stat().st_size > 100
    assert (tmp_path / files[2]).read_text().count("\n") == 1 + int(lines[0].split()[1])


def test_audit_of_preprocessed_labels_into_a_folder(dataset, succeeds, tmp_path):
    folder = tmp_path / "new" / "audit"
    lines = succeeds("audit", "-d", "900", "-c", "3d_fullres", "--output", folder, "--max-cases", "2").splitlines()
    assert lines[0].endswith(f" lesions in 2 cases of {dataset.data_folder()}")
    assert {path.name for path in folder.iterdir()} == {"audit.png", "audit.json", "lesions.csv"}


@pytest.mark.parametrize(("ending", "begin"), [(".png", b"\x89PNG"), (".PNG", b"\x89PNG"), (".pdf", b"%PDF")])
def test_audit_into_a_picture_alone(raw, succeeds, tmp_path, ending, begin):
    path = tmp_path / "new" / f"own{ending}"
    assert succeeds("audit", "-d", "901", "-o", path).splitlines()[-1] == str(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes().startswith(begin)


@pytest.mark.parametrize("option", ["-np", "--max-cases"])
def test_audit_of_no_case(option, capsys):
    with pytest.raises(SystemExit) as info:
        main(["audit", "-d", "901", option, "0"])
    assert info.value.code == 2
    assert "expected a number above 0" in capsys.readouterr().err


def test_audit_refuses_what_is_not_there(raw, dataset, fails, monkeypatch):
    assert fails("audit", "-d", "77").startswith("No dataset '77'")
    assert "No configuration '2d'" in fails("audit", "-d", "900", "-c", "2d")
    assert "own.json" in fails("audit", "-d", "900", "-p", "own")
    assert fails("audit", "-d", "901", "-c", "3d_fullres").startswith("No dataset '901'")
    for path in (raw / "labelsTr").iterdir():
        path.unlink()
    assert fails("audit", "-d", "901") == f"No *.nii.gz in {raw / 'labelsTr'}."


def test_audit_refuses_labels_without_a_lesion(nnunet, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_raw_dataset(nnunet.root / "nnUNet_raw", {"a": np.zeros((6, 6, 6))})
    message = f"No lesion in the 1 cases of {folder / 'labelsTr'}: they are all background."
    assert fails("audit", "-d", "901") == message
    assert not (tmp_path / "audit_Dataset901_Raw").exists()


def test_audit_refuses_damaged_files(raw, fails, tmp_path):
    path = raw / "labelsTr" / "case_1.nii.gz"
    whole = path.read_bytes()
    # As an interrupted copy leaves them, and no image at all.
    for damaged in (whole[:-30], whole[:100], b"", gzip.compress(b"text")):
        path.write_bytes(damaged)
        assert fails("audit", "-d", "901", "-o", tmp_path).startswith(f"{path} cannot be read")
    path.write_bytes(whole)
    (raw / "dataset.json").write_text('{"labels": ')
    assert fails("audit", "-d", "901")
