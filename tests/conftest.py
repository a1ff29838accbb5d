"""Fixtures of the whole suite."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pynvml
import pytest
from hypothesis import settings

from tests.drivers import nvml
from tests.harness import need

# No deadlines: a machine that is busy is no defect. CI repeats the same examples; elsewhere each run tries new ones.
settings.register_profile("trainwatt", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("trainwatt")

FIRST = ("test_attribution.py", "test_slurm.py", "test_kill.py", "test_identity.py", "test_nodes.py")
"""Files of tests/e2e that take minutes: were they last, one worker would wait for the other."""

MakeDriver = Callable[..., nvml.FakeDriver]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in libnvidia-ml.so.1, built once."""
    need.program("gcc")
    return nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def _inside(library: Path) -> None:
    """The stand-in in this process: a process can only ever have one NVML."""
    nvml.preload(library)


@pytest.fixture
def make_driver(_inside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeDriver]:
    """Makes a driver with a virtual clock for code in this process."""

    def make(gpus: Sequence[nvml.FakeGpu] = (nvml.FakeGpu(),), *, virtual_s: float = 1000.0) -> nvml.FakeDriver:
        path = tmp_path / "nvml.conf"
        monkeypatch.setenv("TRAINWATT_FAKE_NVML", str(path))

        return nvml.FakeDriver(path, gpus, virtual_s=virtual_s)

    yield make
    # The library counts initialisations: one left over would keep the next test from starting afresh.
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those of tests/e2e, then all others in their order."""

    def rank(item: pytest.Item) -> int:
        path = item.path
        if path.parent.name != "e2e":
            return len(FIRST) + 1
        return FIRST.index(path.name) if path.name in FIRST else len(FIRST)

    items.sort(key=rank)
