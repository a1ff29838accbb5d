"""A daemon of one's own: one for all ranks, found or started, and nothing of it stays behind."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from monitor.errors import FailureError
from monitor.runs import control, private, protocol
from monitor.runs.private import Private
from tests.harness import poll

# Answers `who` and `stop` as the real one, says each of its starts, and removes its directory at its end.
STAND_IN = (
    sys.executable,
    "-c",
    """
import os, signal, sys, threading
from pathlib import Path
from monitor.runs import control
from monitor.runs.private import remove
directory, ended = Path(sys.argv[1]), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
async def stop(peer, request):
    ended.set()
    return {}
async def who(peer, request):
    return {"pid": os.getpid(), "sid": os.getsid(0), "cwd": os.getcwd(), "environment": dict(os.environ),
            "arguments": sys.argv[2:], "found": sorted(os.listdir(directory))}
with (directory / "started").open("a") as file:
    file.write("x")
with control.serving(directory / "socket", {"who": who, "stop": stop}):
    ended.wait(60)
remove(directory)
""",
)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory with a short name; in the end no daemon of a test is left."""
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(name) in command.read_bytes():
                    os.kill(int(command.parent.name), signal.SIGKILL)


def made(run_id: str = "demo", *arguments: str) -> Private:
    """One whose daemon is the stand-in."""
    return Private(run_id, arguments, program=STAND_IN)


def who(one: Private) -> dict[str, Any]:
    """What the daemon says of itself."""
    return protocol.ask(one.socket, {"op": "who"}, timeout_s=10.0)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def test_ranks_that_start_at_once_share_one(runtime: Path) -> None:
    """Of eight that come at the same moment one starts it, and all are answered by it."""
    ranks = [made() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda rank: rank.bring(20.0), ranks))

    assert 1 == len({who(rank)["pid"] for rank in ranks})
    assert "x" == (ranks[0].directory / "started").read_text()
    ranks[3].stop()

    assert [] == list((runtime / "trainwatt").iterdir())


def test_two_runs_have_two(runtime: Path) -> None:
    """Each run has its own, in a directory of its own that only its user can enter."""
    one, other = made("one"), made("other")
    one.bring(20.0)
    other.bring(20.0)

    assert who(one)["pid"] != who(other)["pid"]
    assert {0o700} == {path.stat().st_mode & 0o777 for path in (runtime / "trainwatt", one.directory, other.directory)}


@pytest.mark.usefixtures("runtime")
def test_when_it_has_stopped_nothing_is_left() -> None:
    """`stop` returns when the process has ended and the directory is gone; the next one is a new one."""
    one = made()
    one.bring(20.0)
    first = who(one)["pid"]
    one.stop()

    assert gone(first)
    assert not one.directory.exists()
    one.bring(20.0)

    assert first != who(one)["pid"]
    one.stop()


def test_what_a_killed_one_has_left_is_taken_over(runtime: Path) -> None:
    """After kill -9 the next one is started in the same directory, and finds what is in it."""
    one = made()
    one.bring(20.0)
    (one.directory / "ledger").write_text("joules")
    os.kill(who(one)["pid"], signal.SIGKILL)
    poll.until(lambda: private.answering(one.socket) is None, what="the end")
    rank = made()
    rank.bring(20.0)

    assert {"ledger", "lock", "log", "socket"} <= set(who(rank)["found"])
    rank.stop()

    assert [] == list((runtime / "trainwatt").iterdir())


def test_it_is_apart_from_the_job(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of its own, the root as its directory, and neither PYTHONPATH nor what is meant for the job."""
    monkeypatch.setenv("PYTHONPATH", "/no/such/place")
    monkeypatch.setenv("TRAINWATT_RUN", "outer")
    monkeypatch.setenv("TRAINWATT_SOCKET", "/no/such/socket")
    monkeypatch.setenv("TRAINWATT_ZONE", "DE")
    one = made("demo", "--interval=2")
    one.bring(20.0)
    said = who(one)

    assert (said["pid"], "/", ["--interval=2"]) == (said["sid"], said["cwd"], said["arguments"])
    assert not {"PYTHONPATH", "TRAINWATT_RUN", "TRAINWATT_SOCKET"} & said["environment"].keys()
    assert (str(runtime), "DE") == (said["environment"]["XDG_RUNTIME_DIR"], said["environment"]["TRAINWATT_ZONE"])
    one.stop()


@pytest.mark.usefixtures("runtime")
def test_one_that_cannot_start_says_why() -> None:
    """The last line of its log is the reason."""
    program = (sys.executable, "-c", "import sys; print('once'); sys.exit('trainwatt: the ledger is full')")
    with pytest.raises(FailureError) as caught:
        Private("demo", program=program).bring(20.0)

    assert "the private daemon has ended: the ledger is full" == str(caught.value)


@pytest.mark.usefixtures("runtime")
def test_one_that_does_not_answer_is_not_waited_for() -> None:
    """When the time is up that is told, and the lock is free again."""
    one = Private("demo", program=(sys.executable, "-c", "import sys; sys.stdin.read(); import signal; signal.pause()"))
    with pytest.raises(FailureError, match="does not answer yet; its log is"):
        one.bring(0.2)
    made().bring(20.0)

    assert who(one)
    made().stop()


def test_who_waits_for_a_directory_that_goes_begins_anew(runtime: Path) -> None:
    """A daemon removes its directory while it holds the lock: who has waited for that lock makes a new one."""
    one = made()
    one.directory.mkdir()
    lock = os.open(one.directory / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(one.bring, 20.0)
        poll.until(lambda: waits_for(one.directory / "lock"), what="the one who waits")
        (one.directory / "lock").unlink()
        one.directory.rmdir()
        os.close(lock)
        coming.result()

    assert who(one)["found"]
    one.stop()

    assert [] == list((runtime / "trainwatt").iterdir())


def waits_for(path: Path) -> bool:
    """Whether this process has the file open twice: once for the test, once for who waits."""
    return [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()].count(os.path.realpath(path)) > 1


@pytest.mark.usefixtures("runtime")
def test_a_directory_that_somebody_is_coming_to_is_not_removed() -> None:
    """While another holds the lock, who ends leaves everything to it."""
    one = made()
    one.directory.mkdir()
    lock = os.open(one.directory / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (one.directory / "ledger").write_text("joules")

    assert not private.remove(one.directory)
    assert "joules" == (one.directory / "ledger").read_text()
    os.close(lock)

    assert private.remove(one.directory)
    assert not one.directory.exists()
    assert not private.remove(one.directory)


@pytest.mark.parametrize("how", ["link", "file", "open to all", "of another user"])
def test_a_place_that_others_may_write_to_is_refused(how: str, runtime: Path) -> None:
    """A link, a file, a directory of somebody else's or open to others: refused in one line with the remedy."""
    place = runtime / "trainwatt"
    if how == "link":
        (runtime / "elsewhere").mkdir(mode=0o700)
        place.symlink_to("elsewhere")
    elif how == "file":
        place.write_text("")
    else:
        place.mkdir(mode=0o700)
    if how == "open to all":
        place.chmod(0o777)
    if how == "of another user":
        if os.geteuid() != 0:
            pytest.skip("needs root to be two users")
        os.chown(place, 65534, 65534)
    with pytest.raises(FailureError, match="set XDG_RUNTIME_DIR"):
        made()


def test_a_long_name_of_the_runtime_directory_is_avoided(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path has at most 107 bytes: where the runtime directory's is longer, another place is taken."""
    deep = runtime / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))

    assert not made().socket.is_relative_to(deep)
    assert len(os.fsencode(made().socket)) < 100


def test_a_dead_socket_is_no_daemon(runtime: Path) -> None:
    """What a killed daemon has left, or what is no socket at all, is not found; a live one is."""
    path = runtime / "trainwatt" / "socket"
    control.bind(path).close()

    assert private.installed(path) is None or private.answering(protocol.SYSTEM_PATH)
    assert private.answering(runtime) is None
    path.unlink()
    one = made()
    one.bring(20.0)

    assert one.socket == private.installed(one.socket)
    assert who(one)["pid"] == private.answering(one.socket)
    one.stop()


def test_the_daemon_does_not_keep_what_the_job_has_open(runtime: Path) -> None:
    """`$(trainwatt run ...)` ends with the command: the daemon holds none of its caller's descriptors."""
    program = (
        "import sys; from monitor.runs.private import Private\n"
        f"one = Private('demo', program=({STAND_IN[0]!r}, '-c', sys.argv[1])); one.bring(20.0); print(one.socket)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, STAND_IN[2]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=True,
    )

    assert f"{made().socket}\n" == done.stdout
    assert runtime in made().socket.parents
    made().stop()
