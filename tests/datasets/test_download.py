"""Downloads from a server of the test's own, which can lose connections, ignore ranges and send wrong bytes."""

import errno
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_rw.datasets import download as unpacking
from nnunet_rw.datasets.download import CHUNK_BYTES, resume_download, unpack_folder
from nnunet_rw.datasets.msd import TASKS, URL_VARIABLE, download_task

NAME = "Task04_Hippocampus"
HIPPOCAMPUS = Path(__file__).parents[1] / "data" / NAME
FILES = {
    "dataset.json": json.dumps({"name": "Hippocampus"}).encode(),
    "imagesTr/hippocampus_001.nii.gz": np.random.default_rng(0).bytes(5 * CHUNK_BYTES),
    "labelsTr/hippocampus_001.nii.gz": b"labels",
    "imagesTs/hippocampus_002.nii.gz": b"image",
}
OF_MACOS = {"._dataset.json": b"x", "imagesTr/._hippocampus_001.nii.gz": b"x", ".DS_Store": b"x"}


def tar_of(files, root=NAME, extra=()):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{root}/{name}" if root else name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return content.getvalue()


TAR = tar_of({**FILES, **OF_MACOS})


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def server(monkeypatch):
    """Serves `content` under every name; what it was asked for stands in `requests`, as (path, Range)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = SimpleNamespace(content=TAR, requests=[], sent_bytes=0, drop_after=[], ranges=True, statuses=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            state.requests.append((self.path, asked))
            status = state.statuses.pop(0) if state.statuses else 200
            if status != 200:
                self.send_error(status)
                return
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and state.ranges else 0
            if begin and begin >= len(state.content):
                self.send_error(416)
                return
            rest = state.content[begin:]
            self.send_response(206 if asked and state.ranges else 200)
            if asked and state.ranges:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            rest = rest[: state.drop_after.pop(0)] if state.drop_after else rest
            self.wfile.write(rest)
            state.sent_bytes += len(rest)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture
def download(server, tmp_path):
    """Function that downloads the server's task; `messages` holds what was told."""

    def run(**options):
        checksums = {NAME: hashlib.md5(TAR).hexdigest()}
        log = run.messages.append
        settings = {"base_url": server.url, "checksums": checksums, "log": log, "pause_seconds": 0.0, **options}
        return download_task(NAME, tmp_path / "msd", **settings)

    run.messages = []
    run.folder = tmp_path / "msd"
    run.part = run.folder / f"{NAME}.tar.part"
    return run


def visible(folder):
    """Names in a folder, without the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != f".{NAME}.lock")


class TestDownload:
    def test_whole(self, server, download):
        folder = download()
        assert folder == download.folder / NAME
        # What macOS added is left out.
        assert files_in(folder) == FILES
        assert visible(download.folder) == [NAME]
        assert server.requests == [(f"/{NAME}.tar", None)]
        assert download.messages == [f"Downloading {server.url}/{NAME}.tar", f"Unpacking {folder}.tar"]

    def test_second_time(self, server, download):
        folder = download()
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        assert download() == folder
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        assert len(server.requests) == 1
        assert download.messages[-1] == f"{folder} is there already"

    def test_by_variable(self, server, download, monkeypatch):
        monkeypatch.setenv(URL_VARIABLE, f"{server.url}/mirror/")
        download(base_url=None)
        assert server.requests == [(f"/mirror/{NAME}.tar", None)]

    def test_keep_archive(self, server, download):
        folder = download(keep_archive=True)
        archive = folder.with_name(f"{NAME}.tar")
        assert archive.read_bytes() == TAR
        shutil.rmtree(folder)
        # Used, and not removed: this call has not brought it.
        assert files_in(download()) == FILES
        assert archive.read_bytes() == TAR
        assert len(server.requests) == 1

    def test_images_of_tests_are_optional(self, server, download):
        server.content = tar_of({name: data for name, data in FILES.items() if "imagesTs" not in name})
        folder = download(checksums={NAME: hashlib.md5(server.content).hexdigest()})
        assert (folder / "imagesTs").is_dir()
        (folder / "imagesTs").rmdir()
        download()
        assert (folder / "imagesTs").is_dir()

    def test_folder_that_is_not_complete(self, server, download):
        (download.folder / NAME / "imagesTr").mkdir(parents=True)
        with pytest.raises(FileExistsError, match=rf"{NAME} is there without dataset\.json\. Complete or remove it"):
            download()
        assert server.requests == []

    def test_empty_folder(self, download):
        (download.folder / NAME).mkdir(parents=True)
        assert files_in(download()) == FILES

    def test_two_at_once(self, server, download):
        threads = [threading.Thread(target=download) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 1
        assert download.messages[-1].endswith("is there already")
        assert files_in(download.folder / NAME) == FILES

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80", "http://"])
    def test_no_address(self, download, url):
        with pytest.raises(ValueError, match=r"^Expected an address such as https://.*, but got"):
            download(base_url=url)


class TestBrokenConnection:
    def test_goes_on(self, server, download):
        server.drop_after = [2 * CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES]
        assert files_in(download()) == FILES
        asked = [asked for _, asked in server.requests]
        assert asked == [None, *(f"bytes={number * CHUNK_BYTES}-" for number in (2, 3, 4))]
        assert server.sent_bytes == len(TAR)
        assert "the connection was lost; trying again" in download.messages

    def test_a_later_call_goes_on(self, server, download):
        server.drop_after = [3 * CHUNK_BYTES] + [0] * 4
        with pytest.raises(
            ConnectionError, match=r"^Cannot download http.*tar \(the connection was lost\)\. What has come is"
        ):
            download()
        # Five in a row, the first of which brought something.
        assert len(server.requests) == 5
        assert visible(download.folder) == [f"{NAME}.tar.part"]
        assert download.part.read_bytes() == TAR[: 3 * CHUNK_BYTES]
        assert files_in(download()) == FILES
        assert server.requests[5:] == [(f"/{NAME}.tar", f"bytes={3 * CHUNK_BYTES}-")]
        assert server.sent_bytes == len(TAR)
        assert f"Resuming {server.url}/{NAME}.tar" in download.messages

    def test_server_without_ranges_sends_all_again(self, server, download):
        server.ranges, server.drop_after = False, [3 * CHUNK_BYTES, CHUNK_BYTES]
        assert files_in(download()) == FILES
        assert server.sent_bytes == len(TAR) + 4 * CHUNK_BYTES

    def test_all_has_come_but_was_not_checked(self, server, download):
        download.folder.mkdir()
        download.part.write_bytes(TAR)
        assert files_in(download()) == FILES
        assert server.sent_bytes == 0

    def test_busy_server(self, server, download):
        server.statuses = [503, 429]
        assert files_in(download()) == FILES
        assert len(server.requests) == 3
        assert download.messages[1].startswith("503 Service Unavailable; trying again")

    def test_pauses_grow(self, server, tmp_path, monkeypatch):
        pauses = []
        monkeypatch.setattr(time, "sleep", pauses.append)
        server.statuses = [500] * 4
        with pytest.raises(ConnectionError, match=r"\(500 Internal Server Error\)"):
            resume_download(server.url, tmp_path / "file", attempts=4, pause_seconds=0.5, log=lambda text: None)
        assert pauses == [0.5, 1.0, 2.0]

    def test_no_such_file(self, server, download):
        server.statuses = [404]
        expected = (
            rf"^The server does not give http.*{NAME}\.tar \(404 Not Found\)\. Get {NAME} elsewhere: a folder in MSD"
        )
        with pytest.raises(FileNotFoundError, match=expected):
            download()
        assert len(server.requests) == 1
        assert visible(download.folder) == []

    def test_no_server(self, download):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            expected = rf"^Cannot download {url}/{NAME}\.tar \(Connection refused\)\. Get {NAME} elsewhere"
            with pytest.raises(ConnectionError, match=expected):
                download(base_url=url)
        assert visible(download.folder) == []

    def test_killed_half_way(self, server, download, tmp_path):
        download.folder.mkdir()
        call = f"resume_download({server.url!r}, Path({str(download.part)!r}))"
        # Once two chunks stand on the disk it stops.
        lines = [
            "import time",
            "from pathlib import Path",
            "from nnunet_rw.datasets import download",
            "from nnunet_rw.datasets.download import resume_download",
            "class Bar(download.tqdm):",
            "    def update(self, n):",
            "        self.seen = getattr(self, 'seen', 0) + n",
            f"        if self.seen == 3 * {CHUNK_BYTES}:",
            "            print('in the middle', flush=True)",
            "            time.sleep(60)",
            "download.tqdm = Bar",
            call,
        ]
        killed = subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True)
        assert killed.stdout.readline() == "in the middle\n"
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        come = download.part.read_bytes()
        assert 0 < len(come) < len(TAR)
        assert come == TAR[: len(come)]
        assert files_in(download()) == FILES
        assert server.requests[-1] == (f"/{NAME}.tar", f"bytes={len(come)}-")


class TestChecksum:
    def test_wrong_bytes(self, server, download):
        server.content = TAR[:-1] + b"x"
        with pytest.raises(
            ValueError, match=r"has the MD5 checksum [0-9a-f]{32} instead of .* was removed\. Run the same"
        ):
            download()
        assert visible(download.folder) == []
        server.content = TAR
        assert files_in(download()) == FILES

    def test_file_that_changed_on_the_server(self, server, download):
        download.folder.mkdir()
        download.part.write_bytes(b"x" * CHUNK_BYTES)
        with pytest.raises(ValueError, match="was removed"):
            download()
        assert visible(download.folder) == []

    def test_archive_of_the_users_own_is_left_alone(self, server, download):
        download.folder.mkdir()
        archive = download.folder / f"{NAME}.tar"
        archive.write_bytes(TAR[:1000])
        with pytest.raises(ValueError, match=r"tar has not the checksum of the published one\. Remove it"):
            download()
        assert archive.read_bytes() == TAR[:1000]
        assert server.requests == []

    def test_of_the_publication_by_default(self, download):
        with pytest.raises(ValueError, match=f"instead of {TASKS[NAME].md5}"):
            download(checksums=None)


class TestDisk:
    def test_too_little_space_is_told_before(self, server, download, monkeypatch):
        # The archive, and as much again for what is in it.
        needed = 2 * len(TAR)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
        with pytest.raises(
            OSError, match=rf"^\[Errno 28\] {NAME}\.tar needs 0\.0 GB more in .* Free space or"
        ) as caught:
            download()
        assert caught.value.errno == errno.ENOSPC
        assert visible(download.folder) == []
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
        assert files_in(download()) == FILES

    def test_what_has_come_needs_no_more_space(self, download, monkeypatch):
        download.folder.mkdir()
        download.part.write_bytes(TAR[:CHUNK_BYTES])
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * len(TAR) - CHUNK_BYTES))
        assert files_in(download()) == FILES

    def test_full_while_downloading(self, server, download):
        # The kernel's own refusal in the middle of a write, which is what a full disk or a quota does.
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = 2 * CHUNK_BYTES + 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            with pytest.raises(
                OSError, match=r"No space in .*msd \(File too large\)\. What was downloaded is kept"
            ) as info:
                download()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert info.value.errno == errno.EFBIG
        come = download.part.read_bytes()
        assert 2 * CHUNK_BYTES <= len(come) <= limit
        assert files_in(download()) == FILES
        assert server.requests[1:] == [(f"/{NAME}.tar", f"bytes={len(come)}-")]

    def test_full_while_unpacking(self, server, download, monkeypatch):
        def full(*args, **options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(tarfile, "copyfileobj", full)
            with pytest.raises(OSError, match=r"No space in .*msd \(No space left on device\)\. What was downloaded"):
                download()
        assert visible(download.folder) == [f"{NAME}.tar"]
        assert files_in(download()) == FILES
        assert len(server.requests) == 1

    def test_read_only_folder(self, download, monkeypatch):
        def refuse(*args, **options):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr("nnunet_rw.datasets.msd.locked", refuse)
        with pytest.raises(
            PermissionError, match=r"msd cannot be written to \(Read-only file system\)\. Choose another"
        ):
            download()


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


class TestUnpacking:
    @pytest.fixture
    def unpack(self, tmp_path):
        """Function that unpacks an archive beside a file which must not change."""
        (tmp_path / "outside").write_bytes(b"mine")

        def run(content, finish=lambda folder: None):
            archive = tmp_path / "archive.tar"
            archive.write_bytes(content)
            (tmp_path / "parent").mkdir(exist_ok=True)
            return unpack_folder(archive, NAME, tmp_path / "parent", finish)

        yield run
        assert (tmp_path / "outside").read_bytes() == b"mine"

    def assert_refused(self, unpack, tmp_path, content):
        with pytest.raises(ValueError, match=r"archive\.tar (is refused: '.*' in it would|cannot be unpacked: )"):
            unpack(content)
        assert list((tmp_path / "parent").iterdir()) == []

    @pytest.mark.parametrize("name", ["../outside", "../../outside", "{root}/outside", f"{NAME}/../../../outside"])
    def test_members_outside(self, unpack, tmp_path, name):
        name = name.format(root=tmp_path)
        self.assert_refused(unpack, tmp_path, tar_of({**FILES, name: b"evil"}, root=""))

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    @pytest.mark.parametrize("has_filter", [True, False])
    def test_links_to_outside(self, unpack, tmp_path, monkeypatch, kind, has_filter):
        if not has_filter:
            monkeypatch.setattr(unpacking, "_FILTER", {})
        evil = link(f"{NAME}/link", "../../../outside", kind)
        self.assert_refused(unpack, tmp_path, tar_of(FILES, extra=[evil]))

    def test_device(self, unpack, tmp_path):
        self.assert_refused(unpack, tmp_path, tar_of(FILES, extra=[link(f"{NAME}/tty", "", tarfile.CHRTYPE)]))

    def test_without_the_filter_of_newer_pythons(self, unpack, monkeypatch):
        monkeypatch.setattr(unpacking, "_FILTER", {})
        assert files_in(unpack(TAR)) == FILES

    @pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, TAR[: 3 * CHUNK_BYTES]])
    def test_damaged(self, unpack, tmp_path, content):
        with pytest.raises(ValueError, match=r"archive\.tar cannot be unpacked: "):
            unpack(content)
        assert list((tmp_path / "parent").iterdir()) == []

    def test_another_folder(self, unpack, tmp_path):
        with pytest.raises(ValueError, match=rf"archive\.tar holds no folder {NAME}\."):
            unpack(tar_of(FILES, root="Task09_Spleen"))
        assert list((tmp_path / "parent").iterdir()) == []

    def test_names_that_begin_with_a_dot(self, unpack):
        assert files_in(unpack(tar_of(FILES, root=f"./{NAME}"))) == FILES

    def test_leftover_of_a_killed_call(self, unpack, tmp_path):
        leftover = tmp_path / "parent" / f".{NAME}.unpacking" / NAME / "half"
        leftover.parent.mkdir(parents=True)
        leftover.touch()
        assert files_in(unpack(TAR)) == FILES
        assert visible(tmp_path / "parent") == [NAME]

    def test_has_its_name_only_when_finished(self, unpack, tmp_path):
        def finish(folder):
            assert files_in(folder) == FILES
            assert not (tmp_path / "parent" / NAME).exists()
            raise ValueError("not complete")

        with pytest.raises(ValueError, match="not complete"):
            unpack(TAR, finish)
        assert list((tmp_path / "parent").iterdir()) == []


def test_archive_without_labels(server, download):
    server.content = tar_of({name: data for name, data in FILES.items() if "labelsTr" not in name})
    with pytest.raises(
        ValueError, match=rf"^The archive of {NAME} holds no labelsTr, so it is no task in MSD layout\.$"
    ):
        download(checksums={NAME: hashlib.md5(server.content).hexdigest()})
    assert visible(download.folder) == [f"{NAME}.tar"]


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="needs the checkout's data")
def test_nnunet_converts_what_came(server, download, nnunet, thread_pools):
    from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset

    real = {
        path.relative_to(HIPPOCAMPUS).as_posix(): path.read_bytes() for path in HIPPOCAMPUS.rglob("*") if path.is_file()
    }
    server.content = tar_of(real)
    folder = download(checksums={NAME: hashlib.md5(server.content).hexdigest()})
    convert_msd_dataset(str(folder), num_processes=1)
    converted = nnunet.root / "nnUNet_raw" / "Dataset004_Hippocampus"
    assert len(list((converted / "labelsTr").iterdir())) == len([name for name in real if name.startswith("labelsTr/")])
