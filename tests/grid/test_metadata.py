import pytest

from monitor.grid.metadata import Services, region
from tests.drivers.feedserver import Answer, FeedServer, redirect

TEXT = "text/plain"
LOGIN = "/latest/api/token"
AWS = "/latest/meta-data/placement/region"
GCP = "/computeMetadata/v1/instance/zone"
AZURE = "/metadata/instance/compute/location"


def services(server: FeedServer) -> Services:
    """All three at one address, as they are."""
    return Services(aws=server.base_url, gcp=server.base_url, azure=server.base_url)


def test_amazon_is_asked_with_a_token() -> None:
    """IMDSv2: a token by PUT, and the region with it."""
    with FeedServer() as server:
        server.on(LOGIN, Answer(body=b"the-token", content_type=TEXT))
        server.on(AWS, Answer(body=b"eu-central-1\n", content_type=TEXT))
        found = region(services(server), timeout_s=10.0)
        asked = {one.path: one for one in server.asked}

    assert "aws:eu-central-1" == found
    assert ("PUT", "60") == (asked[LOGIN].method, asked[LOGIN].headers["x-aws-ec2-metadata-token-ttl-seconds"])
    assert ("GET", "the-token") == (asked[AWS].method, asked[AWS].headers["x-aws-ec2-metadata-token"])


def test_google_tells_the_zone() -> None:
    """The last part of the path without its letter, only with the header that proves who answers."""
    body = b"projects/4711/zones/us-central1-a"
    with FeedServer() as server:
        server.on(GCP, Answer(body=body, content_type=TEXT, headers={"Metadata-Flavor": "Google"}))
        found = region(services(server), timeout_s=10.0)
        (asked,) = (one for one in server.asked if one.path == GCP)
        server.on(GCP, Answer(body=body, content_type=TEXT))
        unproven = region(services(server), timeout_s=10.0)

    assert ("gcp:us-central1", "Google") == (found, asked.headers["metadata-flavor"])
    assert unproven is None


def test_azure_tells_the_location() -> None:
    """As text, of a version of the API."""
    with FeedServer() as server:
        server.on(AZURE, Answer(body=b"westeurope", content_type=TEXT))
        found = region(services(server), timeout_s=10.0)
        (asked,) = (one for one in server.asked if one.path == AZURE)

    assert ("azure:westeurope", "true") == (found, asked.headers["metadata"])
    assert [("api-version", "2021-02-01"), ("format", "text")] == asked.parameters


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404, body=b"no"),
        Answer(status=200, body=b"<html>Sign in</html>", content_type="text/html"),
        Answer(body=b"x" * 10_000),
        Answer(silent=True),
        redirect("http://127.0.0.1:1/elsewhere"),
        Answer(body=b""),
    ],
    ids=["missing", "portal", "long", "silent", "redirect", "empty"],
)
def test_whatever_else_answers_there_is_no_region(answer: Answer) -> None:
    """A captive portal or another service leads to none, never to a guess."""
    with FeedServer() as server:
        server.play(answer)

        assert region(services(server), timeout_s=10.0) is None


def test_one_that_hangs_is_left_behind() -> None:
    """After the time-out there is no region, and the daemon goes on; one that is refused needs no time at all."""
    with FeedServer() as server:
        server.play(Answer(body=b"eu-central-1", drip_s=0.3))

        assert region(services(server), timeout_s=0.1) is None
    closed = services(server)

    assert region(closed, timeout_s=10.0) is None
