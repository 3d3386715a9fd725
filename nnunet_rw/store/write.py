"""Maps of a whole preprocessed dataset computed, compressed and written, where they are not up to date.

Each is computed and compressed a channel at a time, so that memory holds one channel and not one per class.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, infer_dataset_class

from nnunet_rw.maps.arrays import diagonal
from nnunet_rw.maps.kinds import (
    KINDS,
    LESION_IDS,
    MAX_LOCATIONS,
    LesionTable,
    distance_channels,
    lesion_channels,
    list_lesions,
)
from nnunet_rw.store.files import (
    FOLDER_NAME,
    LESIONS_KEY,
    METADATA_KEY,
    MapSettings,
    identity_of,
    is_current,
    map_path,
    missing_maps,
    packed,
    read_labels,
)
from nnunet_rw.util import advice
from nnunet_rw.util.files import host_name, locked, short_hash, write_atomically
from nnunet_rw.util.parallel import in_processes

# nnU-Net's own codec, LZ4HC, takes three times as long for distances and compresses them no better.
_FAST = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE]}
_COMPACT = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA]}
_FLOAT16_MAX = float(np.finfo(np.float16).max)
# Of `nnunet_rw.util.files.temporary_path`, and of earlier versions, which wrote out the case.
_TEMPORARY_NAME = re.compile(r"\.(?P<case>.*)@(?P<host>[^@-]*)-(?P<pid>\d+)-([0-9a-f]{12}|[0-9a-f]{32})\.tmp")


def list_cases(data_folder: str | Path, settings: MapSettings | None = None) -> list[str]:
    """The cases that nnU-Net sees in a preprocessed folder; those of macOS (``._case``) are none.

    Settings name its plans where there are no cases.
    """
    folder = Path(data_folder)
    what_to_do = settings.preprocess_advice(folder) if settings else advice.preprocess(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No preprocessed data in {folder}. {what_to_do}")
    try:
        found = infer_dataset_class(str(folder)).get_identifiers(str(folder))
    except (AssertionError, KeyError) as error:  # no file, or others among them
        raise FileNotFoundError(f"No preprocessed cases in {folder}. {what_to_do}") from error
    return sorted(case for case in found if not case.startswith("."))


def ensure_maps(
    data_folder: str | Path,
    kinds: Iterable[str],
    settings: MapSettings,
    cases: Iterable[str] | None = None,
    num_processes: int | None = None,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
    part: tuple[int, int] | None = None,
    compact: bool = False,
) -> int:
    """Write the maps that are absent, damaged or out of date.

    Safe to be called by several trainings at once: the first writes, the others wait and find all done. Killed at
    any moment it leaves whole files only, and the next call resumes where it stopped. Different parts write at the
    same time, also on different machines, and a call for the whole shares the work with parts that run.

    Parameters
    ----------
    data_folder : path
        ``<nnUNet_preprocessed>/<dataset>/<data_identifier>``.
    kinds : iterable of str
        Those that losses need, see `nnunet_rw.maps.kinds.KINDS`; what is stored for them is written.
    settings : MapSettings
    cases : iterable of str, optional
        Default: all of the folder.
    num_processes : int, optional
        Default: nnU-Net's number of processes, at most the processors of this machine.
    overwrite : bool
        Write also what is current.
    log : callable
        Told what is written.
    part : (int, int), optional
        Part i of n, counted from 0: only ``cases[i::n]``.
    compact : bool
        Compress harder what is written; what is current counts as current either way.

    Returns
    -------
    int
        Number of cases written, by this call.

    Raises
    ------
    FileNotFoundError
        There is no preprocessed data.
    OSError
        Maps are missing and cannot be written (read-only folder, full disk).
    ValueError
        Unknown kind, no such part, or cases are damaged or hold a label that the dataset does not list; the maps of all
        others are written then.
    """
    kinds = list(settings.stored_kinds(kinds))
    data_folder = Path(data_folder)
    cases = list_cases(data_folder, settings) if cases is None else list(cases)
    lock = ".lock"
    if part is not None:
        part_id, num_parts = part
        if not 0 <= part_id < num_parts:
            raise ValueError(f"Expected a part from 0 to {num_parts - 1}, but got {part_id}.")
        cases = cases[part_id::num_parts]
        # Of the part's own: the lock of the whole would let one machine write at a time.
        lock = f".lock_{part_id}_of_{num_parts}"
    if not kinds or (not overwrite and not missing_maps(data_folder, cases, kinds, settings)):
        return 0
    _refuse_while_importing()
    try:
        folder = data_folder / FOLDER_NAME
        folder.mkdir(exist_ok=True)
        with locked(folder / lock):
            remove_leftovers(data_folder, None if part is None else cases)
            outdated = dict.fromkeys(cases, kinds) if overwrite else missing_maps(data_folder, cases, kinds, settings)
            if not outdated:
                return 0
            log(f"Writing maps ({', '.join(kinds)}) of {len(outdated)} cases to {folder}")
            return _write_all(data_folder, outdated, settings, num_processes, overwrite, compact, log)
    except OSError as error:
        explained = _explained(error, data_folder, settings)
        if explained is error:
            raise
        raise explained from error


def _refuse_while_importing() -> None:
    """A script without a main guard runs again in each of its workers, which would wait for the lock for ever."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError("Maps are written by processes. Put the script's code under: if __name__ == '__main__':")


def _write_all(
    data_folder: Path,
    outdated: dict[str, list[str]],
    settings: MapSettings,
    num_processes: int | None,
    overwrite: bool,
    compact: bool,
    log: Callable[[str], None],
) -> int:
    tasks = [(data_folder, case, kinds, settings, overwrite, compact) for case, kinds in outdated.items()]
    try:
        # Both map libraries hold the GIL, so processes.
        done = dict(in_processes(_write, tasks, "Writing maps", num_processes))
    except BrokenProcessPool as error:
        raise OSError(
            errno.ENOMEM,
            "A process that wrote maps died, most likely for want of memory (or the calling script has no "
            "if __name__ == '__main__'). Maps written so far are kept. "
            f"{settings.maps_advice(data_folder, processes=1)}",
        ) from error
    problems = [result for _, result in sorted(done.items()) if isinstance(result, str)]
    if problems:
        for problem in problems[1:]:
            log(problem)
        number = "1 case" if len(problems) == 1 else f"{len(problems)} cases"
        raise ValueError(f"Maps of {number} cannot be written, those of all others are: {problems[0]}")
    return sum(done.values())  # type: ignore[arg-type]


def _write(
    data_folder: Path, case: str, kinds: list[str], settings: MapSettings, overwrite: bool, compact: bool
) -> bool | str:
    """Write a case, unless another machine has done so since the list was made.

    Returns
    -------
    bool or str
        Whether it was written; or why it cannot be, which is no reason to leave out the others.
    """
    if not overwrite:
        kinds = [kind for kind in kinds if not is_current(data_folder, kind, case, settings)]
    try:
        if kinds:
            write_case(data_folder, case, kinds, settings, compact)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return bool(kinds)


def _explained(error: OSError, data_folder: Path, settings: MapSettings) -> OSError:
    """The same error, saying what the user can do."""
    folder = data_folder / FOLDER_NAME
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionError(
            error.errno,
            f"Maps are missing and {folder} cannot be written to ({error.strerror}). Make it writable, or let its "
            f"owner do so. {settings.maps_advice(data_folder)}",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(
            error.errno,
            f"No space for maps in {folder} ({error.strerror}). Maps written so far are whole and kept: free space "
            "and run the same command again",
        )
    return error


def write_case(
    data_folder: str | Path, case: str, kinds: Iterable[str], settings: MapSettings, compact: bool = False
) -> None:
    """Compute and store maps of one case.

    Parameters
    ----------
    compact : bool
        The same maps in smaller files, which take several times as long to compress.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_labels`.
    OSError
        The folder cannot be written to or is full. Nothing torn is left behind.
    """
    identities = {kind: identity_of(data_folder, kind, case, settings) for kind in kinds}
    labels, spacing_mm = read_labels(data_folder, case, settings)
    for kind, identity in identities.items():
        if KINDS[kind].sampling == "linear":
            array = compressed_distances(kind, labels, spacing_mm, settings, compact)
        else:
            array, table = compressed_lesions(labels, settings, compact)
            array.schunk.vlmeta[LESIONS_KEY] = packed(table)
        array.schunk.vlmeta[METADATA_KEY] = identity
        write_atomically(map_path(data_folder, kind, case, settings), array.to_cframe())


def compressed_distances(
    kind: str, labels: np.ndarray, spacing_mm: tuple[float, ...], settings: MapSettings, compact: bool
) -> blosc2.NDArray:
    """A distance map (channels, X, Y, Z) in memory: float16, or float32 where that would overflow or be too coarse.

    Parameters
    ----------
    kind : "interior_distance" or "boundary_distance"
    labels : integer array (X, Y, Z)
    spacing_mm : 3 floats
        Of this case.
    settings : MapSettings
    compact : bool
        Fewer bytes, in several times the time.
    """
    # No distance is longer than the diagonal.
    fits = diagonal(labels.shape, spacing_mm) < _FLOAT16_MAX and min(spacing_mm) > 1e-2
    dtype = np.dtype(np.float16 if fits else np.float32)
    array = _zeros(KINDS[kind].num_channels(settings.scheme), labels.shape, dtype, settings, compact)
    distances = distance_channels(kind, labels, settings.scheme, spacing_mm, settings.per_slice)
    thickness = array.chunks[1]
    for channel, values in enumerate(distances):
        # Whole chunks, so that none is compressed twice; slabs, so that only they are in memory in both types.
        for start in range(0, len(values), thickness):
            slab = slice(start, start + thickness)
            array[channel, slab] = values[slab].astype(dtype, order="C")
    return array


def compressed_lesions(labels: np.ndarray, settings: MapSettings, compact: bool) -> tuple[blosc2.NDArray, LesionTable]:
    """Lesion ids (channels, X, Y, Z) in memory, unsigned integers, and their table; parameters as above."""
    scheme = settings.scheme
    for dtype in (np.dtype(np.uint16), np.dtype(np.uint32)):
        array = _zeros(KINDS[LESION_IDS].num_channels(scheme), labels.shape, dtype, settings, compact)
        found = []
        for channel, lesions in enumerate(lesion_channels(scheme.each_mask(labels), MAX_LOCATIONS)):
            if lesions.ids.size:
                array[(channel, *lesions.box)] = lesions.ids.astype(dtype, order="C")
            found.append(replace(lesions, ids=lesions.ids[:0]))
        table = list_lesions(found, scheme.num_labelled(labels))
        if len(table) <= np.iinfo(dtype).max:
            break
    return array, table


def _zeros(
    num_channels: int, shape: tuple[int, ...], dtype: np.dtype, settings: MapSettings, compact: bool
) -> blosc2.NDArray:
    """To be filled; what stays zero takes neither room nor time."""
    whole = (num_channels, *shape)
    blocks, chunks = comp_blosc2_params(whole, settings.patch_size, dtype.itemsize)
    parameters = (_COMPACT if compact else _FAST) | {"nthreads": 1}
    return blosc2.zeros(whole, dtype, chunks=chunks, blocks=blocks, cparams=parameters)


def remove_leftovers(data_folder: str | Path, cases: Iterable[str] | None = None) -> None:
    """Delete temporary files of writers on this machine that died: of these cases, or of all."""
    chosen = None if cases is None else {name for case in cases for name in (case, short_hash(case))}
    for path in (Path(data_folder) / FOLDER_NAME).glob("*/*/.*.tmp"):
        writer = _TEMPORARY_NAME.fullmatch(path.name)
        if writer is None or (chosen is not None and writer["case"] not in chosen):
            continue
        if writer["host"] == host_name() and not _is_alive(int(writer["pid"])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
