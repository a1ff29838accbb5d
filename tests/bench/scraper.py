"""A client that scrapes as Prometheus does: OpenMetrics, gzip, one connection as long as the server keeps it."""

import gzip
import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}


class Scraper:
    """One keep-alive connection to a daemon on this machine."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.scrapes = 0

    def get(self, path: str = "/metrics") -> bytes:
        """The body as it went over the wire. Raises RuntimeError unless the answer is 200."""
        try:
            answer = self._ask(path)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()  # kept too long for the server; as Prometheus, dial again
            answer = self._ask(path)
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path} answered {answer.status}")
        self.scrapes += 1
        return body

    def _ask(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers=HEADERS)
        return self._connection.getresponse()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def samples(body: bytes) -> int:
    """Number of samples of a compressed exposition."""
    return sum(not line.startswith(b"#") for line in gzip.decompress(body).splitlines())


@contextmanager
def scraping(port: int, every_s: float) -> Iterator[Scraper]:
    """Scrape at a fixed rate until left, from a thread of this process. What fails is raised at the end."""
    leave = Event()
    scraper = Scraper(port)
    failures: list[Exception] = []

    def scrape() -> None:
        due_s = time.monotonic()
        while not leave.wait(max(0.0, due_s - time.monotonic())):
            due_s += every_s
            try:
                scraper.get()
            except Exception as error:  # noqa: BLE001  (whatever it is, it is told below)
                failures.append(error)
                return

    thread = Thread(target=scrape, name="scraper")
    thread.start()
    try:
        yield scraper
    finally:
        leave.set()
        thread.join()
        scraper.close()
    for failure in failures:
        raise failure
