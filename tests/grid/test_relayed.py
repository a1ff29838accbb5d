"""A site behind one relay: however many nodes ask, the provider is asked as if there were one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random

import requests

from exporters import http
from monitor.core.model import Intensity
from monitor.core.snapshot import Policy, Snapshot
from monitor.grid.client import Client
from monitor.grid.feed import Account, Ask, Want
from monitor.grid.neso import Neso
from monitor.grid.refresher import Refresher
from monitor.grid.relay import Relay
from monitor.ledger.intensities import Intensities
from tests.drivers.feedserver import FeedServer
from tests.grid.day import unix
from tests.grid.test_day import Neighbour, actual_g

CLIENTS = 200
SLOT_S = 1800.0
BEGIN_S = unix("2026-11-20T10:00:00+00:00")


class Published:
    """A daemon that meters nothing."""

    snapshot = Snapshot(ledger_id="l-relay", policy=Policy())


@contextmanager
def relay_of(store: Intensities) -> Iterator[str]:
    """The relay's own HTTP server, over its store; yields its address."""
    listener = http.bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with http.serving(Published(), listener, everything=False, store=store, relay=True):
        yield f"http://127.0.0.1:{port}"
    listener.close()


def test_two_hundred_clients_are_one_request_a_slot() -> None:
    """In each of three slots every client gets the newest value, and the provider was asked for the present once."""
    grid, at = Neighbour(), [BEGIN_S + 300.0]  # after the value of this slot has come out
    grid.now = lambda: at[0]
    store = Intensities(None)
    with FeedServer() as server, relay_of(store) as address, ThreadPoolExecutor(20) as nodes:
        server.answer_with(grid.answer)
        relay = Refresher(
            {"GB": [Neso(Account(base_url=server.base_url))]},
            statics={},
            store=store,
            client=Client(requests.Session(), grid.now),
            wall_s=grid.now,
            random=Random(1),
        )
        for slot in range(3):
            until_s = BEGIN_S + slot * SLOT_S + 1200.0
            while (due_s := relay.tick("neso")) < until_s:
                at[0] = max(at[0], due_s)
            at[0] = until_s
            asked_before = len(server.asked)

            answers = list(nodes.map(lambda number: newest(address, at[0], number), range(CLIENTS)))

            expected_s = BEGIN_S + (slot - 1) * SLOT_S
            assert {(expected_s, actual_g(expected_s, at[0]))} == {
                (one.valid_from_s, one.grams_per_kilowatthour) for one in answers
            }
            assert {"neso"} == {one.provider for one in answers}
            assert asked_before == len(server.asked)
            assert slot + 1 == sum(path.endswith("/fw24h") for path in grid.asked)
    store.close()


def newest(address: str, now_s: float, number: int) -> Intensity:
    """What a node's own client and feed make of the relay's answer: the newest value that is no forecast."""
    feed = Relay(Account(base_url=address))
    ask = Ask(want=Want.LATEST, zone="GB", at_s=now_s, start_s=now_s - 3 * 3600.0, end_s=now_s + number % 3)
    request = feed.request(ask)
    assert request is not None
    with requests.Session() as session:
        values = feed.parse(ask, Client(session, lambda: now_s).get(request, feed.about))
    return max((one for one in values if one.quality == "actual"), key=lambda one: one.valid_from_s)
