"""A real HTTP server on loopback that plays a provider of carbon intensity, well-behaved or not.

with FeedServer() as server:
    server.play(Answer(body=b'{"data":[]}'))                     # to every request, for ever
    server.play(Answer(status=500), Answer(body=b"{}"))          # the first request; all that follow
    server.on("/login", Answer(status=403, body=b"<html>", content_type="text/html"))   # of one path only
    server.answer_with(lambda asked: Answer(body=asked.path.encode()))                  # or decide for each
    requests.get(f"{server.base_url}/intensity", timeout=5)
    assert "/intensity" == server.asked[0].path
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from socket import SHUT_RDWR, socket
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

MANY_CLIENTS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came over the wire."""

    method: str
    path: str
    """As sent: nothing is unquoted."""
    query: str
    """As sent, without the question mark."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""

    @property
    def target(self) -> str:
        """Path and query as sent."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query, unquoted, in the order that it was sent in."""
        return parse_qsl(self.query, keep_blank_values=True, strict_parsing=bool(self.query))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes back, and how badly."""

    status: int = 200
    body: bytes | Callable[[], Iterable[bytes]] = b""
    """A function gives the pieces of a body whose length is not announced (chunked); each is sent when it is made,
    so a test can advance its clock between two of them. It has to come to an end by itself."""
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    """Nothing is sent until it is set, or the server closes."""
    drip_s: float | None = None
    """Real seconds between two bytes of a body that is given as bytes. Ends when the client hangs up."""
    cut_after: int | None = None
    """The connection is closed after so many bytes of a body that is given as bytes; its full length was announced."""
    silent: bool = False
    """The connection is closed without a word."""


def redirect(url: str, *, status: int = 302) -> Answer:
    """An answer that sends the client elsewhere."""
    return Answer(status=status, headers={"Location": url}, content_type=None)


def huge(size_bytes: int, *, announced: bool = False) -> Answer:
    """A body of blanks that is never held in memory; `announced` = with its true Content-Length."""
    block = b" " * 65_536
    blocks, rest = divmod(size_bytes, len(block))

    def pieces() -> Iterator[bytes]:
        yield from repeat(block, blocks)
        yield block[:rest]

    return Answer(body=pieces, headers={"Content-Length": str(size_bytes)} if announced else {})


class FeedServer:
    """Serves from `with` until its end. Everything it was asked is kept in `asked`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: list[Asked] = []
        self._scripts: dict[str | None, tuple[Answer, ...]] = {None: (Answer(status=404, body=b"{}"),)}
        self._played: dict[str | None, int] = {}
        self._decide: Callable[[Asked], Answer] | None = None
        self._at_once = 0
        self._most_at_once = 0
        self.closing = threading.Event()
        """Set when the server ends: for functions that make pieces and wait between them."""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="feed-server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Cut every connection and free the port: from now on connections are refused."""
        self.closing.set()
        self._server.shutdown()
        self._server.cut()
        self._server.server_close()
        self._thread.join()

    @property
    def base_url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Asked]:
        """Every request since the start, or since `forget`, in the order of their arrival."""
        with self._changed:
            return list(self._asked)

    @property
    def most_at_once(self) -> int:
        """The most requests that were being answered at the same time."""
        with self._changed:
            return self._most_at_once

    def forget(self) -> None:
        """Empty `asked` and `most_at_once`."""
        with self._changed:
            self._asked.clear()
            self._most_at_once = 0

    def wait_for(self, requests: int, *, timeout_s: float = 10.0) -> list[Asked]:
        """Wait until so many requests have come in all; return them. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._asked) >= requests, timeout_s):
                raise TimeoutError(f"{len(self._asked)} requests came, not {requests}")
            return list(self._asked)

    def play(self, *answers: Answer) -> None:
        """Answer every request by these in their order, then by the last of them for ever. Starts the script anew."""
        with self._changed:
            self._scripts[None] = answers
            self._played[None] = 0
            self._decide = None

    def on(self, path: str, *answers: Answer) -> None:
        """The same for the requests of one path, which no longer take part in the script of `play`."""
        with self._changed:
            self._scripts[path] = answers
            self._played[path] = 0

    def answer_with(self, decide: Callable[[Asked], Answer]) -> None:
        """Let a function decide in place of `play`. It is called by several threads."""
        with self._changed:
            self._decide = decide

    def begin(self, asked: Asked) -> Answer:
        """Note a request and choose its answer: for the server's own threads."""
        with self._changed:
            self._asked.append(asked)
            self._at_once += 1
            self._most_at_once = max(self._most_at_once, self._at_once)
            self._changed.notify_all()
            script = asked.path if asked.path in self._scripts else None
            decide = self._decide if script is None else None
            answers = self._scripts[script]
            turn = self._played.get(script, 0)
            self._played[script] = turn + 1
        return decide(asked) if decide is not None else answers[min(turn, len(answers) - 1)]

    def end(self) -> None:
        """Note that an answer is out."""
        with self._changed:
            self._at_once -= 1
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = MANY_CLIENTS

    def __init__(self, owner: FeedServer) -> None:
        self.owner = owner
        self._open: set[socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        """Without asking the resolver for a name, as HTTPServer does."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def get_request(self) -> tuple[socket, Any]:
        connection, address = super().get_request()
        with self._guard:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """End every connection, so that no thread waits for the next request on it."""
        with self._guard:
            for connection in self._open:
                try:
                    connection.shutdown(SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave at once: with Nagle's algorithm a body may wait 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the base class)
        """Keep quiet."""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        asked = Asked(
            method=self.command,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        owner = self.server.owner
        answer = owner.begin(asked)
        try:
            self._wait(answer.hold)
            if answer.silent or owner.closing.is_set():
                self.close_connection = True
            else:
                self._send(answer)
        finally:
            owner.end()

    def _wait(self, hold: threading.Event | None) -> None:
        while hold is not None and not hold.wait(0.01) and not self.server.owner.closing.is_set():
            pass

    def _send(self, answer: Answer) -> None:
        if "Date" in answer.headers:  # of another time than ours: the server itself would name the present
            self.send_response_only(answer.status)
        else:
            self.send_response(answer.status)
        names = {name.lower() for name in answer.headers}
        if answer.content_type is not None and "content-type" not in names:
            self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if callable(answer.body):
            self._send_pieces(answer.body(), chunked="content-length" not in names)
        else:
            if "content-length" not in names:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self._send_bytes(answer, answer.body)

    def _send_pieces(self, pieces: Iterable[bytes], *, chunked: bool) -> None:
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for piece in pieces:
            # An empty chunk would end the body.
            if piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n" if chunked else b"")

    def _send_bytes(self, answer: Answer, body: bytes) -> None:
        if self.command == "HEAD":
            return
        if answer.cut_after is not None:
            self.wfile.write(body[: answer.cut_after])
            self.wfile.flush()
            self.close_connection = True
        elif answer.drip_s is None:
            self.wfile.write(body)
        else:
            for byte in body:
                self.wfile.write(bytes((byte,)))
                self.wfile.flush()
                if self.server.owner.closing.wait(answer.drip_s):
                    return
