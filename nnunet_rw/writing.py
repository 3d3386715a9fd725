"""Bring the maps of a whole preprocessed dataset up to date."""

from __future__ import annotations

import errno
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from filelock import FileLock
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_rw.maps.kinds import KINDS
from nnunet_rw.parallel import in_processes
from nnunet_rw.store import FOLDER_NAME, MapSettings, missing_maps, remove_leftovers, write_case


def list_cases(data_folder: str | Path) -> list[str]:
    """The cases that nnU-Net sees in a preprocessed folder."""
    folder = Path(data_folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No preprocessed data in {folder}. Run: nnUNetv2_plan_and_preprocess")
    try:
        return sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder)))
    except AssertionError as error:
        raise FileNotFoundError(f"No preprocessed cases in {folder}. Run: nnUNetv2_preprocess") from error


def ensure_maps(
    data_folder: str | Path,
    kinds: Iterable[str],
    settings: MapSettings,
    cases: Iterable[str] | None = None,
    num_processes: int | None = None,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> int:
    """Write the maps that are absent, damaged or out of date.

    Safe to be called by several trainings at once: the first writes, the others wait and find all done. Killed at
    any moment it leaves whole files only, and the next call goes on where it stopped.

    Parameters
    ----------
    data_folder : path
        ``<nnUNet_preprocessed>/<dataset>/<data_identifier>``.
    kinds : iterable of str
        See `nnunet_rw.maps.kinds.KINDS`.
    settings : MapSettings
    cases : iterable of str, optional
        Default: all of the folder.
    num_processes : int, optional
        Default: nnU-Net's number of processes, at most the processors of this machine.
    overwrite : bool
        Write also what is current.

    Returns
    -------
    int
        Number of cases written.

    Raises
    ------
    FileNotFoundError
        There is no preprocessed data.
    OSError
        Maps are missing and cannot be written (read-only folder, full disk).
    ValueError
        Unknown kind, or a segmentation holds a label that the dataset does not list.
    """
    kinds = list(kinds)
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"Unknown kind of map: {', '.join(unknown)}. Known: {', '.join(KINDS)}.")
    data_folder = Path(data_folder)
    cases = list_cases(data_folder) if cases is None else list(cases)
    if not kinds or (not overwrite and not missing_maps(data_folder, cases, kinds, settings)):
        return 0
    _refuse_while_importing()
    try:
        folder = data_folder / FOLDER_NAME
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            remove_leftovers(data_folder)
            outdated = dict.fromkeys(cases, kinds) if overwrite else missing_maps(data_folder, cases, kinds, settings)
            if outdated:
                log(f"Writing maps ({', '.join(kinds)}) of {len(outdated)} cases to {folder}")
                _write_all(data_folder, outdated, settings, num_processes)
    except OSError as error:
        explained = _explained(error, data_folder)
        if explained is error:
            raise
        raise explained from error
    return len(outdated)


def _refuse_while_importing() -> None:
    """A script without a main guard runs again in each of its workers, which would wait for the lock for ever."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError("Maps are written by processes. Put the script's code under: if __name__ == '__main__':")


def _write_all(
    data_folder: Path, outdated: dict[str, list[str]], settings: MapSettings, num_processes: int | None
) -> None:
    tasks = [(data_folder, case, kinds, settings) for case, kinds in outdated.items()]
    try:
        # Both map libraries hold the GIL, so processes.
        for _ in in_processes(write_case, tasks, "Writing maps", num_processes):
            pass
    except BrokenProcessPool as error:
        raise OSError(
            errno.ENOMEM,
            "A process that wrote maps died, most likely for want of memory (or the calling script has no "
            "if __name__ == '__main__'). Maps written so far are kept. Run: nnunet-rw maps with a smaller -np",
        ) from error


def _explained(error: OSError, data_folder: Path) -> OSError:
    """The same error, saying what the user can do."""
    folder = data_folder / FOLDER_NAME
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionError(
            error.errno,
            f"Maps are missing and {folder} cannot be written to ({error.strerror}). Make it writable, or let its "
            f"owner run: nnunet-rw maps -d {data_folder.parent.name}",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(
            error.errno,
            f"No space for maps in {folder} ({error.strerror}). Maps written so far are whole and kept: free space "
            "and run the same command again",
        )
    return error
