"""The control socket: one JSON object a line, judged by the kernel's credentials, and no client harms another."""

import asyncio
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor.errors import FailureError
from monitor.runs import control, operations, protocol
from monitor.runs.control import Limits
from monitor.runs.protocol import Peer, ask
from tests.harness import need, poll

PROMPT_S = 1.0
"""An answer that takes longer was held up by somebody."""


async def who(peer: Peer, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tell who asks, and what."""
    return {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid, "said": request.get("said")}


async def fail(_peer: Peer, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A mistake of the client, over two lines."""
    raise FailureError("not\nso")


async def break_down(_peer: Peer, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A defect."""
    raise ZeroDivisionError("a defect")


async def wait(_peer: Peer, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Never answer."""
    await asyncio.Event().wait()
    return {}


async def much(_peer: Peer, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer at length."""
    return {"text": "x" * 30_000}


OPERATIONS = {"who": who, "fail": fail, "break": break_down, "wait": wait, "much": much}


@dataclass
class Client:
    """One connection, line by line."""

    connection: socket.socket

    def send(self, *lines: bytes) -> None:
        """Send these lines."""
        self.connection.sendall(b"".join(line + b"\n" for line in lines))

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.connection.recv(1)
            assert byte, f"hung up after {bytes(line)!r}"
            line += byte
        answer: dict[str, Any] = json.loads(line)
        return answer

    def hung_up(self) -> bool:
        """Wait until the server hangs up, taking what comes before."""
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


@contextmanager
def connected(path: Path) -> Iterator[Client]:
    """A client that waits at most ten seconds for anything."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10.0)
        connection.connect(str(path))
        yield Client(connection)


def assert_prompt(path: Path) -> None:
    """Another client is answered at once."""
    began_s = time.monotonic()

    assert ask(path, {"op": "who"})["pid"] == os.getpid()
    assert time.monotonic() - began_s < PROMPT_S


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where a server listens."""
    at = tmp_path / "run" / "socket"
    with control.serving(at, OPERATIONS):
        yield at


def test_the_kernel_says_who_asks(path: Path) -> None:
    """A handler is given process, user and group as the kernel knows them, and the request."""
    answer = ask(path, {"op": "who", "said": "ä\n☃"})

    assert {
        "ok": True,
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "said": "ä\n☃",
    } == answer


def test_everybody_may_connect(path: Path) -> None:
    """The socket is open to every user, its directory to nobody for writing, whatever the umask."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "it is no JSON"),
        (b"hello", "it is no JSON: Expecting value at column 1"),
        (b'{"op": "who"', "it is no JSON"),
        (b'{"op": "who"} {}', "it is no JSON: Extra data"),
        (b'"who"', "it is no object"),
        (b"[" * 60_000, "it is nested too deeply"),
        (b'{"op": "who", "said": NaN}', "NaN is no number"),
        (b'{"op": "who", "said": ' + b"9" * 5000 + b"}", "cannot read the request"),
        (b'{"op": "\xff\xfe"}', "unknown op '\ufffd\ufffd'"),
        (b'{"op": "\\ud800"}', "unknown op '\ufffd'"),
        (b'{"op": "who", "said": ' + b"[" * 900 + b'"\\ud800"' + b"]" * 900 + b"}", "it is nested too deeply"),
        ('{"op": "who"}'.encode("utf-16"), "it is no JSON"),
        (b"{}", "unknown op None; there is: break, fail, much, wait, who"),
        (b'{"op": ["who"]}', "unknown op ['who']"),
        (b'{"op": "whoo"}', "unknown op 'whoo'; did you mean 'who'?"),
        (b'{"op": "' + b"w" * 60_000 + b'"}', "unknown op 'wwww"),
        (b'{"op": "fail"}', "not so"),
        (b'{"op": "break"}', "internal error: ZeroDivisionError: a defect"),
    ],
)
def test_a_wrong_request_is_answered_and_the_talk_goes_on(path: Path, line: bytes, says: str) -> None:
    """Whatever a line holds, its answer is one line of text, and the next request is answered as ever."""
    with connected(path) as client:
        client.send(line, b'{"op": "who"}')
        refused, well = client.answer(), client.answer()

    assert refused["ok"] is False
    assert says in refused["error"]
    assert "\n" not in refused["error"]
    assert len(refused["error"]) < 200
    assert well["ok"] is True


def test_an_odd_name_is_read_all_the_same(path: Path) -> None:
    """What is not UTF-8, and half a character in an escape, becomes U+FFFD; a whole one in two escapes stays."""
    with connected(path) as client:
        client.send(b'{"op": "who", "said": ["M\xfcller", {"\\udc00": "\\ud83d\\ude00 \\ud83d"}]}')

        assert ["M\ufffdller", {"\ufffd": "\U0001f600 \ufffd"}] == client.answer()["said"]


def test_what_runs_beside_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the background begins with the server, with or without a socket, and is cancelled at its end."""
    monkeypatch.setattr(control, "default_path", lambda: tmp_path / "no" / "such" / "socket")
    for path in (tmp_path / "socket", None):
        told: list[str] = []
        began = threading.Event()

        async def work(told: list[str] = told, began: threading.Event = began) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                told.append("ended")

        with control.serving(path, OPERATIONS, background=[work]):
            assert began.wait(10)
            assert [] == told

        assert ["ended"] == told


def test_a_defect_beside_the_server_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where work in the background fails there is one warning, and requests are answered."""

    async def fail_at_once() -> None:
        raise ZeroDivisionError("a defect")

    with control.serving(tmp_path / "socket", OPERATIONS, background=[fail_at_once]):
        assert_prompt(tmp_path / "socket")

    assert ["the control thread goes on without a part: ZeroDivisionError: a defect"] == caplog.messages


def test_a_last_line_may_lack_its_end(path: Path) -> None:
    """`printf '{"op": "who"}' | nc -U` works: the end of the stream ends the line."""
    with connected(path) as client:
        client.connection.sendall(b'{"op": "who"}')
        client.connection.shutdown(socket.SHUT_WR)

        assert client.answer()["ok"] is True
        assert client.hung_up()


def test_a_line_of_a_megabyte_ends_the_talk(path: Path) -> None:
    """More than 64 KiB without an end is answered with the limit and hung up on; the others notice nothing."""
    with connected(path) as client:
        sender = threading.Thread(target=_send_quietly, args=(client, b"x" * 2**20))
        sender.start()
        refused = client.answer()
        sender.join(10)

        assert not sender.is_alive()
        assert refused == {"ok": False, "error": "a request has at most 65536 bytes a line"}
        assert client.hung_up()
    assert_prompt(path)


def _send_quietly(client: Client, line: bytes) -> None:
    try:
        client.send(line)
    except OSError:
        return  # hung up on, as it should be


def test_a_silent_client_is_dropped(tmp_path: Path) -> None:
    """Who does not complete a request in time is hung up on, even who sends a byte now and then."""
    path = tmp_path / "socket"
    with (
        control.serving(path, OPERATIONS, limits=Limits(silent_s=0.3)),
        connected(path) as silent,
        connected(path) as dripping,
    ):
        began_s = time.monotonic()
        dripping.connection.sendall(b"{")

        assert_prompt(path)
        assert dripping.hung_up()
        assert silent.hung_up()
        assert time.monotonic() - began_s < 5.0


def test_a_client_that_never_reads_is_dropped(tmp_path: Path) -> None:
    """Answers that nobody takes fill no memory: the client is not read any more, then hung up on."""
    path = tmp_path / "socket"
    with control.serving(path, OPERATIONS, limits=Limits(drain_s=0.5)), connected(path) as deaf:
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            deaf.send(*[b'{"op": "much"}'] * 100_000)
        assert_prompt(path)


def test_a_client_that_never_reads_holds_up_nobody(path: Path) -> None:
    """While one client's answers pile up, another one is answered at once."""
    with connected(path) as deaf:
        deaf.send(*[b'{"op": "much"}'] * 200)

        for _ in range(5):
            assert_prompt(path)


def test_a_waiting_request_holds_up_nobody(path: Path) -> None:
    """While one client waits for its answer, another one is answered at once."""
    with connected(path) as waiting:
        waiting.send(b'{"op": "wait"}')

        assert_prompt(path)


def test_a_flood_of_requests_holds_up_nobody(path: Path) -> None:
    """A client in a tight loop is answered at its pace, a hundred requests a second; the others at once."""
    with connected(path) as flood:
        flood.send(*[b"{}"] * 20_000)
        began_s = time.monotonic()
        for _ in range(5):
            assert_prompt(path)
        for _ in range(50):
            assert flood.answer()["ok"] is False

        assert time.monotonic() - began_s > 0.4


def test_two_hundred_connections_leave_room(path: Path) -> None:
    """Beyond 128 connections the longest silent one makes room: whoever comes is answered, the newest stay."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(path)) for _ in range(200)]

        assert_prompt(path)
        assert clients[0].hung_up()
        clients[-1].send(b'{"op": "who"}')

        assert clients[-1].answer()["ok"] is True


HOG = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
held = [socket.socket(socket.AF_UNIX) for _ in range(200)]
for one in held:
    one.connect(sys.argv[1])
held[-1].sendall(b'{"op": "who"}\\n')
print(held[-1].recv(1000).decode(), end="", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
def test_a_user_who_takes_all_connections_loses_its_own() -> None:
    """The user with the most connections makes room, not somebody else who has been silent for longer."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "socket"
        with control.serving(path, OPERATIONS), connected(path) as patient:
            patient.send(b'{"op": "who"}')

            assert patient.answer()["uid"] == 0
            process = subprocess.Popen(
                [sys.executable, "-c", HOG, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            line = process.stdout.readline()
            patient.send(b'{"op": "who"}')

            assert json.loads(line)["uid"] == 65534
            assert patient.answer()["uid"] == 0
            process.communicate(timeout=10)


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed daemon left behind is in nobody's way, and at the end nothing is left."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with control.serving(path, OPERATIONS):
        assert_prompt(path)

    assert [] == list(tmp_path.iterdir())


def test_a_living_daemons_socket_is_left_alone(path: Path) -> None:
    """A second daemon on a named socket is refused with the remedy; the first goes on."""
    with pytest.raises(FailureError, match=r"another daemon answers on .*--socket PATH"), control.serving(path, {}):
        pass
    assert_prompt(path)


def test_a_busy_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    """A daemon that does not get round to accepting is alive: a full queue is no sign of death."""
    path = tmp_path / "socket"
    with ExitStack() as stack:
        stuck = stack.enter_context(socket.socket(socket.AF_UNIX))
        stuck.bind(str(path))
        stuck.listen(0)
        for _ in range(2):
            knocking = stack.enter_context(socket.socket(socket.AF_UNIX))
            knocking.settimeout(0.0)
            knocking.connect_ex(str(path))
        with pytest.raises(FailureError, match="another daemon answers on"):
            control.bind(path)


def test_what_is_no_socket_is_not_overwritten(tmp_path: Path) -> None:
    """A file that happens to have the name stays what it is."""
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(FailureError, match="exists and is no socket"):
        control.bind(path)

    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/directory/socket", "s" * 200])
def test_a_path_that_cannot_be_names_the_remedy(tmp_path: Path, name: str) -> None:
    """Without its directory, or longer than a Unix socket's name may be: one line that names --socket."""
    with pytest.raises(FailureError, match=r"cannot listen on .*--socket PATH"):
        control.bind(tmp_path / name)


def test_a_socket_of_another_daemon_is_not_removed(tmp_path: Path) -> None:
    """At its end a daemon removes its own socket, not the one that has meanwhile taken the place."""
    path = tmp_path / "socket"
    with control.serving(path, OPERATIONS):
        path.unlink()
        heir = control.bind(path)

    assert path.is_socket()
    heir.close()


def test_without_the_default_socket_the_daemon_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the default socket cannot be made there is one warning, and no error."""
    monkeypatch.setattr(control, "default_path", lambda: tmp_path / "no" / "such" / "socket")
    with control.serving(None, OPERATIONS):
        pass

    assert len(caplog.messages) == 1
    assert "cannot reach this daemon: cannot listen on" in caplog.messages[0]


def test_a_second_daemon_serves_without_the_default_socket(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where another daemon has the default socket there is one warning that names --socket; the first keeps it."""
    monkeypatch.setattr(control, "default_path", lambda: path)
    with control.serving(None, {}):
        assert_prompt(path)

    assert len(caplog.messages) == 1
    assert "another daemon answers on" in caplog.messages[0]
    assert "--socket PATH" in caplog.messages[0]
    assert_prompt(path)


def test_a_shared_temporary_directory_is_no_trap(tmp_path: Path) -> None:
    """In a directory for everybody ours is for us alone, and somebody else's is not used."""
    tmp_path.chmod(0o1777)
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    control.bind(mine / "socket").close()

    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
        with pytest.raises(FailureError, match="belongs to another user"):
            control.bind(theirs / "socket")


def test_the_user_has_a_default_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime directory where there is one, else a directory with the user's number."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", "/var/tmp")  # noqa: S108  (nothing is written there)

    assert tmp_path / "trainwatt" / "socket" == protocol.user_path()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))

    assert Path(f"/var/tmp/trainwatt-{os.geteuid()}/socket") == protocol.user_path()  # noqa: S108


def test_the_clients_try_both_defaults(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the system's daemon is asked, else the user's; without either both names are told."""
    monkeypatch.setattr(protocol, "SYSTEM_PATH", tmp_path / "system")
    monkeypatch.setattr(protocol, "user_path", lambda: path)

    assert ask(None, {"op": "who"})["pid"] == os.getpid()
    monkeypatch.setattr(protocol, "user_path", lambda: tmp_path / "user")
    with pytest.raises(FailureError, match=r"no daemon answers on .*/system or .*/user; start one with trainwatt serv"):
        ask(None, {"op": "who"})


@pytest.mark.parametrize(
    ("speech", "says"),
    [
        (b"", "hung up"),
        (b'{"ok": tr', "hung up"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is not trainwatt"),
        (b"[]\n", "is not trainwatt"),
        (b"{}\n", "refused without a reason"),
        (b'{"ok": false, "error": "not you"}\n', "not you"),
    ],
)
def test_a_strange_daemon_is_one_line(tmp_path: Path, speech: bytes, says: str) -> None:
    """Whatever answers, the client ends with one line."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()

        def speak() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(speech)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(FailureError, match=says):
            ask(path, {"op": "who"})
        thread.join(10)


def test_a_daemon_that_does_not_answer_is_left(path: Path) -> None:
    """The client's patience has an end."""
    with pytest.raises(FailureError, match=r"has not answered for 0\.2 s"):
        ask(path, {"op": "wait"}, timeout_s=0.2)


def test_the_server_ends_at_once(tmp_path: Path) -> None:
    """Neither a silent client, nor one that waits for an answer, nor one that never reads holds up the end."""
    path = tmp_path / "socket"
    with ExitStack() as stack:
        with control.serving(path, OPERATIONS):
            clients = [stack.enter_context(connected(path)) for _ in range(3)]
            clients[1].send(b'{"op": "wait"}')
            clients[2].send(*[b'{"op": "much"}'] * 200)
            assert_prompt(path)
            began_s = time.monotonic()

        assert time.monotonic() - began_s < PROMPT_S
        assert "control" not in {thread.name for thread in threading.enumerate()}
        assert all(client.hung_up() for client in clients)


def test_nothing_of_a_client_remains(path: Path) -> None:
    """Connections that ended leave no descriptor behind."""
    assert_prompt(path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (names, not paths)
    for _ in range(20):
        ask(path, {"op": "who"})

    poll.until(
        lambda: len(os.listdir("/proc/self/fd")) <= before,  # noqa: PTH208
        what="the end of the connections",
    )


def test_root_of_a_container_is_nobody() -> None:
    """An administrator is root or the daemon's user, and lives in the daemon's own PID namespace."""
    own = Peer(os.getpid(), os.geteuid(), os.getegid())

    assert operations.is_administrator(own)
    assert operations.is_administrator(Peer(os.getpid(), 0, 0))
    assert not operations.is_administrator(Peer(os.getpid(), 65533, 65533))
    assert not operations.is_administrator(Peer(0, 0, 0))
    if os.geteuid() == 0:
        below = subprocess.Popen(
            [need.program("unshare"), "--pid", "--fork", "sh", "-c", "echo ready; read _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert below.stdout is not None
        if below.stdout.readline() != "ready\n":
            pytest.skip("this machine makes no PID namespaces")
        inside = int(Path(f"/proc/{below.pid}/task/{below.pid}/children").read_text().split()[0])

        assert operations.is_administrator(Peer(below.pid, 0, 0))
        assert not operations.is_administrator(Peer(inside, 0, 0))
        below.communicate("\n", timeout=10)


def test_the_credentials_are_those_of_the_kernel() -> None:
    """`peer_of` reads struct ucred of both ends, the highest user number included."""
    one, other = socket.socketpair()
    with one, other:
        assert Peer(os.getpid(), os.geteuid(), os.getegid()) == protocol.peer_of(one)
    assert struct.calcsize("iII") == 12
