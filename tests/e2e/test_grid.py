"""A real daemon and the providers of carbon intensity: without any network, over a restart, as a relay."""

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from urllib.request import urlopen

import pytest

from tests.drivers.feedserver import Answer, Asked, FeedServer
from tests.drivers.rapl import RaplTree
from tests.harness import poll
from tests.harness.daemon import Daemon, daemon
from tests.harness.namespaces import network

SLOT_S = 1800.0
GRAMS = 123.0
EVERY_FEED = {"TRAINWATT_FEEDS": ""}
"""As nobody who has set nothing: the providers of the zone are asked."""
STATIC_GRAMS = 210.9
"""GB in the bundled yearly table, to a decimal."""


def half_hours(asked: Asked) -> Answer:
    """NESO: every slot that is asked for has one value, and those that are over are actual."""
    start, span = asked.path.split("/")[2:4]
    from_s = moment(start)
    until_s = from_s + float(span[2:4]) * 3600.0 if span.startswith("fw") else moment(span)
    now_s = datetime.now(UTC).timestamp()
    rows = []
    for number in range(int((until_s - from_s) // SLOT_S)):
        at_s = from_s + number * SLOT_S
        told = GRAMS if at_s + SLOT_S <= now_s else None
        rows.append({"from": stamp(at_s), "to": stamp(at_s + SLOT_S), "intensity": {"forecast": 99, "actual": told}})
    return Answer(body=json.dumps({"data": rows}).encode())


def moment(text: str) -> float:
    """Unix time of a moment as NESO writes it."""
    return datetime.fromisoformat(text).timestamp()


def stamp(unix_s: float) -> str:
    """The same way back."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%MZ}"


def value(exposition: str, pattern: str) -> float:
    """Sum of the samples whose name and labels match."""
    return sum(float(number) for number in re.findall(rf"^trainwatt_{pattern} (\S+)$", exposition, flags=re.MULTILINE))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RaplTree]:
    """A node with one socket that draws power."""
    tree = RaplTree(tmp_path / "sys")
    with tree.running(2.0):
        yield tree


def test_no_network_at_all(machine: RaplTree, tmp_path: Path) -> None:
    """In a network namespace of its own: it serves at once, energy flows, grams are static and labelled so."""
    with (
        network(["lonely"]) as net,
        net.at_the_switch(),
        daemon("--zone", "GB", "--sysfs", str(machine.root), log=tmp_path / "log", env=EVERY_FEED) as served,
    ):
        poll.until(
            lambda: value(served.metrics(), r"node_emissions_grams_total{[^}]*}") > 0.0,
            what="grams",
        )
        shown = served.metrics()
        energy_j = value(shown, r"node_measured_energy_joules_total{[^}]*}")
        grams = value(shown, r'node_emissions_grams_total{basis="lifecycle",method="counter",quality="static"}')
        poll.until(lambda: "neso GB" in served.log, what="a line about the feed")

        assert grams == pytest.approx(energy_j / 3.6e6 * STATIC_GRAMS, rel=0.001)
        assert grams == value(shown, r"node_emissions_grams_total{[^}]*}")
        assert re.search(r'grid_intensity_info{[^}]*grid_zone="GB"[^}]*provider="ember-owid",quality="static"', shown)
        assert "Traceback" not in served.log
        assert 1 == sum("neso GB" in line for line in served.log.splitlines())


def test_a_restart_asks_nobody_again(machine: RaplTree, tmp_path: Path) -> None:
    """Killed and started anew it knows every value that it had and asks for none; no gram is lost or made static."""
    with FeedServer() as provider:
        answered = Event()
        provider.answer_with(lambda asked: replace(half_hours(asked), hold=answered))
        env = {"TRAINWATT_FEED_NESO_BASE_URL": provider.base_url}
        args = ("--zone", "GB", "--sysfs", str(machine.root), "--state-dir", str(tmp_path / "state"))
        with daemon(*args, log=tmp_path / "first.log", env=env) as first:
            poll.until(lambda: static(first) > 0.0, what="grams of the moments before the first answer")
            answered.set()
            poll.until(lambda: live(first) > 0.0, what="grams of the feed")
            poll.until(lambda: len(provider.asked) >= 2 and first.metrics(), what="the forecast, too")
            before_g, before_static_g = live(first), static(first)
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait(10)
        asked = len(provider.asked)
        with daemon(*args, log=tmp_path / "second.log", env=env) as second:
            poll.until(lambda: 'provider="neso"' in second.metrics(), what="the feed's value")
            at_once_g = live(second)
            poll.until(lambda: live(second) > at_once_g, what="more grams of the same value")

            assert at_once_g >= before_g
            assert asked == len(provider.asked)
            assert before_static_g == static(second), "nothing more was priced without the feed's value"


def static(served: Daemon) -> float:
    """Grams priced with the yearly value, as those of the moments before a feed's first answer."""
    return value(served.metrics(), r'node_emissions_grams_total{[^}]*quality="static"}')


def live(served: Daemon) -> float:
    """Grams priced with a value of the feed."""
    return value(served.metrics(), r'node_emissions_grams_total{[^}]*quality="(?:actual|carried|forecast)"}')


def test_a_relay_without_sensors(tmp_path: Path) -> None:
    """`serve` on a machine without sensors answers 200 nodes at once, and the provider notices none of them."""
    (tmp_path / "sys").mkdir()
    with FeedServer() as provider:
        provider.answer_with(half_hours)
        env = {"TRAINWATT_FEED_NESO_BASE_URL": provider.base_url, "TRAINWATT_RELAY": "true"}
        args = ("--zone", "GB", "--sysfs", str(tmp_path / "sys"))
        with daemon(*args, log=tmp_path / "log", env=env) as relay, ThreadPoolExecutor(50) as nodes:
            now_s = datetime.now(UTC).timestamp()
            url = (
                f"{relay.url}/api/v1/grid/intensity?zone=GB&start={now_s - 7200:.0f}&end={now_s + 7200:.0f}&forecast=1"
            )

            def ask(_node: int) -> str:
                with urlopen(url, timeout=10) as answer:
                    return str(answer.read().decode())

            poll.until(lambda: len(provider.asked) >= 2 and "123" in ask(0), what="the feed's values")
            poll.until(lambda: 'quality":"forecast' in ask(0).replace(" ", ""), what="what is expected")
            asked = len(provider.asked)
            answers = set(nodes.map(ask, range(200)))
            told = json.loads(answers.pop())

        assert not answers
        assert {"neso"} == {one["provider"] for one in told["values"]}
        assert {"actual", "forecast"} == {one["quality"] for one in told["values"]}
        assert asked == len(provider.asked)
        assert 1 == sum(one.path.endswith("/fw24h") for one in provider.asked)


def test_another_daemon_is_priced_through_the_relay(machine: RaplTree, tmp_path: Path) -> None:
    """A node whose only feed is the relay has the original provider's name, basis and quality on its grams."""
    (tmp_path / "none").mkdir()
    with FeedServer() as provider:
        provider.answer_with(half_hours)
        env = {"TRAINWATT_FEED_NESO_BASE_URL": provider.base_url, "TRAINWATT_RELAY": "true"}
        with daemon("--zone", "GB", "--sysfs", str(tmp_path / "none"), log=tmp_path / "relay.log", env=env) as relay:
            poll.until(lambda: 'provider="neso"' in relay.metrics(), what="the relay's value")
            behind = {"TRAINWATT_FEED_RELAY_BASE_URL": relay.url}
            args = ("--zone", "GB", "--sysfs", str(machine.root))
            with daemon(*args, log=tmp_path / "node.log", env=behind) as node:
                poll.until(lambda: live(node) > 0.0, what="grams by the relay")
                shown = node.metrics()

    assert re.search(r'grid_intensity_info{basis="direct",grid_zone="GB",provider="neso"', shown)
    assert value(shown, r"grid_intensity_grams_per_kilowatthour{[^}]*}") in {GRAMS, 99.0}
