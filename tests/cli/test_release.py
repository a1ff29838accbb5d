"""`trainwatt release` and `resume` against a real daemon: the hardware is let go, the joules are not."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.drivers import nvml
from tests.drivers.waveform import Const
from tests.harness import poll
from tests.harness.daemon import Daemon, clean_environment, command, daemon

WATTS = 400.0
# The verb by an ordinary user, whose own account may not be allowed to run this interpreter.
AS_NOBODY = """
import os, sys
import monitor.cli.release, monitor.cli.resume
from monitor.cli import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
main()
"""


def value(served: Daemon, series: str) -> float | None:
    """The value of one series, named with its labels as in the exposition; None while it is absent."""
    found = [line.rpartition(" ")[2] for line in served.metrics().splitlines() if line.startswith(f"{series} ")]
    return float(found[0]) if found else None


def wait_for(served: Daemon, series: str, expected: float | None) -> None:
    """Return once the series has this value."""
    poll.until(lambda: value(served, series) == expected, what=f"{series} {expected}")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def mock(directory: Path) -> Iterator[tuple[Daemon, str]]:
    """A daemon on simulated devices, and its socket."""
    at = str(directory / "socket")
    with daemon("--mock", "--socket", at, log=directory / "log") as served:
        yield served, at


def test_a_released_mock_stands_still_and_catches_up(directory: Path) -> None:
    """Released: down, no watts, joules as they were; resumed: the joules of the meantime, measured as ever."""
    joules = 'trainwatt_device_energy_joules_total{component="gpu",device="mock-gpu-0",method="simulated"}'
    watts = 'trainwatt_device_power_watts{component="gpu",device="mock-gpu-0"}'
    lost = 'trainwatt_device_unmeasured_seconds_total{component="gpu",device="mock-gpu-0"}'
    up = 'trainwatt_source_up{source="mock"}'
    with mock(directory) as (served, at):
        done = command("release", "mock", "--socket", at)

        assert (0, "") == (done.returncode, done.stderr)
        assert done.stdout.startswith("mock is closed until ")
        wait_for(served, up, 0.0)
        began_s, began_j = time.monotonic(), value(served, joules)
        wait_for(served, watts, None)

        assert value(served, joules) == began_j
        assert value(served, 'trainwatt_source_failures_total{reason="released",source="mock"}') == 1.0
        assert "trainwatt resume mock opens it earlier" in served.snapshot()["sources"][0]["problem"]
        assert served.ready()
        done = command("resume", "mock", "--socket", at)

        assert (0, "mock is read again\n", "") == (done.returncode, done.stdout, done.stderr)
        wait_for(served, up, 1.0)
        span_s = time.monotonic() - began_s
        gained_j = (value(served, joules) or 0.0) - (began_j or 0.0)

        assert 60.0 * span_s < gained_j < 700.0 * (span_s + 2.0)
        assert value(served, lost) == 0.0
        assert value(served, watts) is not None
        done = command("resume", "mock", "--socket", at)

        assert (0, "mock was not released: nothing to do\n") == (done.returncode, done.stdout)
        assert "mock: released until" in served.log
        assert "Traceback" not in served.log


def test_the_socket_goes_with_the_daemon(directory: Path) -> None:
    """While a daemon lives its socket is open to all; at the end it is gone, and a verb names what to start."""
    with mock(directory) as (served, at):
        assert Path(at).is_socket()
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(10)
        done = command("release", "mock", "--socket", at)

        assert not Path(at).exists()
        assert (1, f"trainwatt: no daemon answers on {at}; start one with trainwatt serve\n") == (
            done.returncode,
            done.stderr,
        )


def test_a_killed_daemons_socket_is_taken_over(directory: Path) -> None:
    """After kill -9 the next daemon takes the path, which a third one is then refused."""
    with mock(directory) as (served, _at):
        served.process.kill()
        served.process.wait(10)
    with mock(directory) as (served, at):
        third = command("serve", "--mock", "--listen", "127.0.0.1:0", "--socket", at)

        assert (1, 1) == (third.returncode, third.stderr.count("\n"))
        assert "another daemon answers on" in third.stderr
        assert "--socket" in third.stderr
        assert command("release", "mock", env={"TRAINWATT_SOCKET": at}).returncode == 0


def test_the_limit_opens_it_again(directory: Path) -> None:
    """Without `resume` the limit ends the release."""
    with mock(directory) as (served, at):
        assert command("release", "mock", "--limit", "2", "--socket", at).returncode == 0
        wait_for(served, 'trainwatt_source_failures_total{reason="released",source="mock"}', 1.0)
        wait_for(served, 'trainwatt_source_up{source="mock"}', 1.0)


def test_an_ordinary_user_is_refused(directory: Path) -> None:
    """Who is neither root nor the daemon's user reaches the daemon and gets one line; nothing is closed."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be two users")
    with mock(directory) as (served, at):
        for verb in ("release", "resume"):
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, verb, "mock", "--socket", at],
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )

            assert (1, "") == (done.returncode, done.stdout)
            assert done.stderr == f"trainwatt: only root, outside containers, may {verb} a source\n"
        assert value(served, 'trainwatt_source_up{source="mock"}') == 1.0


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (["release", "nvlm"], 1, "unknown source 'nvlm'; there is: mock"),
        (["resume", "nvml"], 1, "unknown source 'nvml'; there is: mock"),
        (["release", "mock", "--limit", "0"], 2, "--limit"),
        (["release", "mock", "--limit", "86401"], 2, "--limit"),
        (["release", "mock", "--limit", "soon"], 2, "--limit"),
        (["release"], 2, "SOURCE"),
    ],
)
def test_a_mistake_is_one_line(directory: Path, args: list[str], exit_code: int, says: str) -> None:
    """A source that is not there is told with those that are; a limit that cannot be meant is refused."""
    with mock(directory) as (_served, at):
        done = command(*args, "--socket", at)

    assert (exit_code, 1, "") == (done.returncode, done.stderr.count("\n"), done.stdout)
    assert says in done.stderr


def test_clients_that_misbehave_do_not_disturb_the_daemon(directory: Path) -> None:
    """A hundred silent connections, one of them in the middle of a line: scrapes, verbs and the end go on."""
    held = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    with mock(directory) as (served, at):
        for one in held:
            one.connect(at)
        held[-1].sendall(b'{"op": "rel')
        began_s = time.monotonic()

        assert command("release", "mock", "--socket", at).returncode == 0
        assert served.ready()
        assert time.monotonic() - began_s < 5.0
        began_s = time.monotonic()
        served.process.send_signal(signal.SIGTERM)

        assert served.process.wait(5) == 0
        assert time.monotonic() - began_s < 1.0
        assert "Traceback" not in served.log
    for one in held:
        one.close()


class Node:
    """A daemon on the stand-in driver."""

    def __init__(self, served: Daemon, driver: nvml.FakeDriver, at: str) -> None:
        self.served = served
        self.driver = driver
        self.at = at
        labels = f'component="gpu",device="{driver.uuid(0)}"'
        self.joules = f'trainwatt_device_energy_joules_total{{{labels},method="counter"}}'
        self.watts = f"trainwatt_device_power_watts{{{labels}}}"
        self.lost = f"trainwatt_device_unmeasured_seconds_total{{{labels}}}"
        self.resets = f"trainwatt_device_energy_resets_total{{{labels}}}"
        self.up = 'trainwatt_source_up{source="nvml"}'

    def do(self, *args: str) -> subprocess.CompletedProcess[str]:
        """A verb to this daemon."""
        return command(*args, "--socket", self.at)

    def get(self, series: str) -> float:
        """A series that is there."""
        found = value(self.served, series)

        assert found is not None, series
        return found


@contextmanager
def stand_in(directory: Path, library: Path, *gpus: nvml.FakeGpu) -> Iterator[Node]:
    """A daemon that reads one GPU at 400 W."""
    (directory / "sys").mkdir()
    at = str(directory / "socket")
    driver = nvml.FakeDriver(directory / "nvml.conf", gpus or (nvml.FakeGpu(),))
    driver.wave(0, 0.0, Const(WATTS))
    with daemon(
        *("--sysfs", str(directory / "sys"), "--socket", at),
        log=directory / "log",
        env=driver.environment(library.parent),
    ) as served:
        node = Node(served, driver, at)
        wait_for(served, node.up, 1.0)
        yield node


def test_the_gpu_counter_tells_what_was_used_during_a_release(directory: Path, library: Path) -> None:
    """The counter survived: the joules of the release are booked when the GPU is back, none is unmeasured."""
    with stand_in(directory, library) as node:
        poll.until(lambda: node.get(node.joules) > 0.0, what="joules")

        assert node.do("release", "nvml").returncode == 0
        wait_for(node.served, node.up, 0.0)
        began_s, began_j = time.monotonic(), node.get(node.joules)
        wait_for(node.served, node.watts, None)

        assert node.get(node.joules) == began_j
        assert node.do("resume", "nvml").returncode == 0
        wait_for(node.served, node.up, 1.0)
        span_s, gained_j = time.monotonic() - began_s, node.get(node.joules) - began_j

        assert gained_j == pytest.approx(WATTS * span_s, abs=WATTS * 2.0)
        assert (0.0, 0.0) == (node.get(node.lost), node.get(node.resets))
        assert node.get(node.watts) == pytest.approx(WATTS)


def test_a_driver_may_be_reloaded_during_a_release(directory: Path, library: Path) -> None:
    """Another driver's counter tells nothing of that time: it is unmeasured, no joule is invented, metering goes on."""
    with stand_in(directory, library, nvml.FakeGpu(base_mj=9_000_000_000)) as node:
        poll.until(lambda: node.get(node.joules) > 0.0, what="joules")

        assert node.do("release", "nvml").returncode == 0
        wait_for(node.served, node.up, 0.0)
        began_j = node.get(node.joules)
        node.driver.reload(node.driver.now_s())
        node.driver.set_versions("580.10.01", "13.580.10.01")

        assert node.do("resume", "nvml").returncode == 0
        poll.until(lambda: node.get(node.lost) > 0.0, what="unmeasured seconds")

        assert node.get(node.lost) < 15.0
        assert node.get(node.joules) <= began_j + 2.0 * WATTS
        poll.until(lambda: node.get(node.joules) > began_j, what="joules of the new driver")

        assert node.served.log.count("reading 1 devices") == 2


def test_a_driver_that_does_not_come_back_is_told(directory: Path, library: Path) -> None:
    """`resume` fails with what the driver says, and the source is tried again by itself."""
    with stand_in(directory, library) as node:
        assert node.do("release", "nvml").returncode == 0
        node.driver.fault("nvmlInitWithFlags", 18)
        done = node.do("resume", "nvml")

        assert (1, 1) == (done.returncode, done.stderr.count("\n"))
        assert "nvml is not released any more, but cannot be read" in done.stderr
        node.driver.heal()
        wait_for(node.served, node.up, 1.0)


def test_a_driver_that_hangs_is_told(directory: Path, library: Path) -> None:
    """A call that does not return: the verb says so after ten seconds; the source is closed once it does."""
    with stand_in(directory, library) as node:
        # Read once a second, it falls into the window of 1.5 s, and hangs for at least 11.5 s after that.
        ends_s = node.driver.now_s() + 1.5
        node.driver.latency("nvmlDeviceGetTotalEnergyConsumption", 13.0, window_s=(0.0, ends_s))
        poll.until(lambda: node.driver.now_s() > ends_s, what="the hanging call")
        done = node.do("release", "nvml")

        assert (1, 1) == (done.returncode, done.stderr.count("\n"))
        assert "a call into the driver has not returned for 10 s" in done.stderr
        wait_for(node.served, node.up, 0.0)
        poll.until(lambda: "released until" in node.served.log, what="the release")
