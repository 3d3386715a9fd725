"""The nnU-Net that this package is written against."""

from __future__ import annotations

from importlib.metadata import version

OLDEST = (2, 8)
NEWEST_TESTED = "2.8.1"


def check_nnunet_version(installed: str | None = None) -> str:
    """The installed version of nnU-Net.

    Raises
    ------
    ImportError
        It is older than 2.8: its loader and augmentation lack what the maps travel through.
    """
    installed = installed or version("nnunetv2")
    numbers = tuple(int(part) for part in installed.split(".")[:2])
    if numbers < OLDEST:
        raise ImportError(
            f"Expected nnunetv2 2.8 or newer, but got {installed}. Run: pip install -U 'nnunetv2>=2.8,<2.9'"
        )
    return installed
