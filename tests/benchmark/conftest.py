import pytest

from nnunet_rw.benchmark.jobs import Workspace


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "my benchmark"
    folder.mkdir()
    return Workspace(folder)
