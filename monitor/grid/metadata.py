"""The cloud region that a machine is in, as the cloud's metadata service tells it. Asked only where that is allowed.

The service is at a link-local address that no router passes on: nobody outside learns of the question.
"""

import http.client
import re
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

LINK_LOCAL = "http://169.254.169.254"
TIMEOUT_S = 1.0
LONGEST_ANSWER_BYTES = 256
_NAME = re.compile("[a-z][a-z0-9-]{1,40}")


class Services(NamedTuple):
    """Where the three services are."""

    aws: str = LINK_LOCAL
    gcp: str = LINK_LOCAL
    azure: str = LINK_LOCAL


def region(services: Services = Services(), *, timeout_s: float = TIMEOUT_S) -> str | None:  # noqa: B008  (immutable)
    """PROVIDER:REGION, or None where no service tells one. Returns after the time-out at the latest."""
    answers: SimpleQueue[str | None] = SimpleQueue()
    ways = ((_gcp, services.gcp), (_azure, services.azure), (_aws, services.aws))

    def ask(number: int) -> None:
        way, base = ways[number]
        try:
            answers.put(way(base, timeout_s))
        except (OSError, http.client.HTTPException, ValueError):
            answers.put(None)

    for number in range(len(ways)):
        # A thread that hangs in a connection that drips is left behind.
        Thread(target=ask, args=(number,), name="metadata", daemon=True).start()
    for _ in ways:
        try:
            found = answers.get(timeout=timeout_s)
        except Empty:
            return None
        if found is not None:
            return found
    return None


def _aws(base: str, timeout_s: float) -> str | None:
    """IMDSv2: a token first, then `placement/region`."""
    token, _ = _call("PUT", base, "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, timeout_s)
    if not token:
        return None
    headers = {"X-aws-ec2-metadata-token": token}
    text, _ = _call("GET", base, "/latest/meta-data/placement/region", headers, timeout_s)
    return _named("aws", text)


def _gcp(base: str, timeout_s: float) -> str | None:
    """`projects/N/zones/us-central1-a`: the region is the last part without its letter."""
    headers = {"Metadata-Flavor": "Google"}
    text, answered = _call("GET", base, "/computeMetadata/v1/instance/zone", headers, timeout_s)
    if answered.get("metadata-flavor") != "Google":
        return None
    return _named("gcp", text.rpartition("/")[2].rpartition("-")[0])


def _azure(base: str, timeout_s: float) -> str | None:
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    text, _ = _call("GET", base, path, {"Metadata": "true"}, timeout_s)
    return _named("azure", text)


def _call(
    method: str, base: str, path: str, headers: Mapping[str, str], timeout_s: float
) -> tuple[str, Mapping[str, str]]:
    """Text and headers of an answer of status 200, else nothing. No proxy is asked and no redirection followed."""
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, f"{parts.path.rstrip('/')}{path}", headers=dict(headers))
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            return "", {}
        text = answer.read(LONGEST_ANSWER_BYTES).decode("ascii", "replace").strip()
        return text, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def _named(provider: str, name: str) -> str | None:
    """None for what is no region's name: an error page of status 200."""
    return f"{provider}:{name}" if _NAME.fullmatch(name.lower()) and name == name.lower() else None
