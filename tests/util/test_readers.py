"""Pickles and checkpoints: what nnU-Net writes is read, anything that would run is refused, damage is told."""

import os
import pickle
from collections import OrderedDict

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from skimage import io

from nnunet_rw.util.readers import ForbiddenGlobal, read_checkpoint, read_pickle

ADVICE = "Write it again."


class Crafted:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def crafted(tmp_path):
    """What makes a folder when it is unpickled; none may be there in the end."""
    yield Crafted(tmp_path / "was run")
    assert not (tmp_path / "was run").exists()


def properties_of(reader, tmp_path):
    """As nnU-Net's reader makes them, of an image 2 x 3 x 4 (z, y, x)."""
    labels = np.zeros((2, 3, 4), np.uint8)
    if reader is NaturalImage2DIO:
        path = tmp_path / "a.png"
        io.imsave(path, labels[0], check_contrast=False)
    elif reader is Tiff3DIO:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, labels)
        (tmp_path / "a.json").write_text('{"spacing": [3.0, 2, 1.5]}')
    elif reader in (NibabelIO, NibabelIOWithReorient):
        path = tmp_path / "a.nii.gz"
        nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), np.diag([-1.5, 2, 3, 1])), path)
    else:
        path = tmp_path / "a.nii.gz"
        image = sitk.GetImageFromArray(labels)
        image.SetSpacing((1.5, 2.0, 3.0))
        sitk.WriteImage(image, str(path))
    _, properties = reader().read_seg(str(path))
    # What nnU-Net's preprocessing adds.
    return {
        **properties,
        "shape_before_cropping": (2, 3, 4),
        "bbox_used_for_cropping": [[0, 2], [np.int64(0), 3], [0, 4]],
        "class_locations": {1: np.zeros((5, 4), np.int64), (1, 2): []},
    }


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "reader",
    [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient, NaturalImage2DIO, Tiff3DIO],
)
def test_properties_of_every_reader_of_nnunets(tmp_path, reader, protocol):
    properties = properties_of(reader, tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(properties, protocol))
    found = read_pickle(path, ADVICE)
    np.testing.assert_equal(found, properties)
    assert type(found["spacing"]) is type(properties["spacing"])
    if reader is SimpleITKIO:
        assert [float(step) for step in found["spacing"]] == [3.0, 2.0, 1.5]


@pytest.mark.parametrize("core", [b"numpy.core.", b"numpy._core."])
def test_numpy_of_before_and_after_its_modules_were_renamed(tmp_path, core):
    content = {"array": np.arange(6.0).reshape(2, 3), "scalar": np.float32(0.5), "ordered": OrderedDict(a=1)}
    own = b"numpy._core." if b"numpy._core." in pickle.dumps(content, 3) else b"numpy.core."
    # Protocol 3 has names as lines, without their length.
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, 3).replace(own, core))
    np.testing.assert_equal(read_pickle(path, ADVICE), content)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"spacing": [1, value]}])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, crafted, protocol, wrap):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(wrap(crafted), protocol))
    with pytest.raises(ForbiddenGlobal, match=rf"^{path} names {os.mkdir.__module__}\.mkdir, which reading it would"):
        read_pickle(path, ADVICE)


@pytest.mark.parametrize(
    "source",
    [
        # Attributes of what is allowed, modules beside it, and names with dots in them.
        b"cnumpy\nload\n(S'a.npy'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"\x80\x04\x8c\x00\x8c\x0dnumpy.ndarray\x93.",
    ],
)
def test_only_what_is_listed_is_allowed(tmp_path, source):
    (tmp_path / "a.pkl").write_bytes(source)
    with pytest.raises(ForbiddenGlobal, match=r"a\.pkl names "):
        read_pickle(tmp_path / "a.pkl", ADVICE)


WHOLE = pickle.dumps({"spacing": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("content", [b"", b"no pickle", WHOLE[:-5], WHOLE[:12], b"cnumpy\nndarray\n(S'a'\ntR."])
def test_a_damaged_pickle_is_told(tmp_path, content):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} is damaged \([^\n]+\)\. Predict again\.$") as told:
        read_pickle(path, "Predict again.")
    assert not isinstance(told.value, ForbiddenGlobal)


def test_a_pickle_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_pickle(tmp_path / "a.pkl", ADVICE)


def checkpoint():
    """The kinds of value that nnU-Net's trainer saves."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([parameter], 0.01, momentum=0.99)
    parameter.sum().backward()
    optimizer.step()
    return {
        "network_weights": OrderedDict(w=parameter.detach()),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.25), np.nanmean([0.5])],
            "dice_per_class_or_region": [[np.float32(0.5)]],
        },
        "_best_ema": np.float64(0.5),
        "init_args": {"plans": {"shape": [1, 2]}, "fold": 0, "device": torch.device("cuda", 0)},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def test_a_checkpoint_of_nnunets(tmp_path):
    saved = checkpoint()
    torch.save(saved, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth", ADVICE)
    assert torch.equal(found.pop("network_weights")["w"], saved.pop("network_weights")["w"])
    assert found.pop("optimizer_state")["state"][0]["momentum_buffer"].tolist() == [1.0, 1.0]
    del saved["optimizer_state"]
    assert found == saved


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, crafted):
    path = tmp_path / "a.pth"
    torch.save({**checkpoint(), "extra": crafted}, path)
    with pytest.raises(ForbiddenGlobal, match=rf"^{path} names {os.mkdir.__module__}\.mkdir, which reading it would"):
        read_checkpoint(path, ADVICE)


@pytest.mark.parametrize("kept", [0, 10, 200, 0.5, -20])
def test_a_damaged_checkpoint_is_told(tmp_path, kept):
    path = tmp_path / "a.pth"
    torch.save(checkpoint(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept == 0.5 else kept])
    with pytest.raises(ValueError, match=rf"^{path} is damaged \([^\n]+\)\. Train again\.$"):
        read_checkpoint(path, "Train again.")


def test_torch_that_cannot_be_told_what_is_harmless_trusts_and_says_so(tmp_path, monkeypatch, capsys):
    torch.save(checkpoint(), tmp_path / "a.pth")
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    assert read_checkpoint(tmp_path / "a.pth", ADVICE)["_best_ema"] == 0.5
    assert f"{tmp_path / 'a.pth'} is trusted: torch " in capsys.readouterr().err
