"""`trainwatt check`: what is measured here, what is not, and the remedy. It starts nothing and leaves nothing open."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from monitor import clock
from monitor.cli.options import load_settings, settings_flags
from monitor.config import Settings
from monitor.core.carbon import in_use
from monitor.core.energy import method_of
from monitor.core.model import Component, Origin, PowerSignal, Reading, Signal
from monitor.core.ports import Source
from monitor.errors import SourceError
from monitor.grid.asking import Answered, ask_each
from monitor.grid.feed import Feed, Want
from monitor.runs import sight
from monitor.sources.alternatives import FirstThatWorks
from monitor.sources.estimate import ERROR_BAND_RATIO
from monitor.sources.hwmon import Hwmon
from monitor.wiring import Wiring, wire

NEVER_MEASURED = ("fans", "network", "disks", "power supply losses")


@click.command()
@settings_flags("mock", "zone", "cloud_region", "feeds", "interval", "pue", "sysfs", "procfs", "estimate_cpu_tdp")
@click.option("--offline", is_flag=True, help="ask no feed: else each is asked once, 10 s at most")
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
def check(config: Path | None, offline: bool, as_json: bool, **flags: Any) -> None:  # noqa: FBT001  (click passes flags so)
    """Exit 0 when something can be measured, 1 when nothing can."""
    loaded = load_settings(config, flags)
    findings = inspect(loaded.settings, offline=offline)
    if as_json:
        click.echo(json.dumps(findings, indent=2))
    else:
        for line in words(findings):
            click.echo(line)
    sys.exit(0 if any(source["devices"] for source in findings["sources"]) else 1)


def inspect(settings: Settings, *, offline: bool = False) -> dict[str, Any]:
    """Open and read each source once, and ask each feed once unless offline.

    Raises UsageError for settings that cannot be meant.
    """
    wiring = wire(settings)
    sources: list[dict[str, Any]] = []
    for source in wiring.sources:
        taken = ""
        for member in source.members if isinstance(source, FirstThatWorks) else (source,):
            seen = _look(member)
            if taken and seen["devices"]:
                seen |= {"state": "not used", "devices": [], "note": f"{taken} tells the same joules"}
            taken = taken or (seen["source"] if seen["devices"] else "")
            sources.append(seen)
    devices = [device for source in sources for device in source["devices"]]
    summed = sorted({device["component"] for device in devices if device["summed"] and not device["estimated"]})
    estimated = sorted({device["component"] for device in devices if device["estimated"]})
    missing = [part for part in (Component.GPU, Component.CPU, Component.DRAM) if part not in (*summed, *estimated)]
    return {
        "sources": sources,
        "summed": summed,
        "estimated": estimated,
        "not_measured": [*missing, *NEVER_MEASURED],
        "grid": _grid(wiring, offline=offline),
        "runs": [line._asdict() for line in sight.words(sight.look(settings.procfs, environment=os.environ))],
    }


def _look(source: Source) -> dict[str, Any]:
    seen: dict[str, Any] = {"source": source.name, "state": "used", "period_s": None, "devices": [], "problems": []}
    try:
        source.open()
        try:
            readout = source.read()
        finally:
            source.close()
    except SourceError as error:
        return seen | {"state": error.reason, "problems": [str(error)]} | _unused(source)
    return (
        seen
        | {
            "period_s": source.period_s,
            "devices": [_device(reading) for reading in readout.readings],
            "problems": sorted({*(failure.message for failure in readout.failures), *readout.notes}),
        }
        | _unused(source)
    )


def _unused(source: Source) -> dict[str, Any]:
    if not isinstance(source, Hwmon):
        return {}
    return {"seen_not_used": [f"{unused.chip} {unused.label}: {unused.why}" for unused in source.seen_not_used()]}


def _device(reading: Reading) -> dict[str, Any]:
    device = reading.device
    tells = reading.energy_j is not None or reading.power_w is not None
    return {
        "id": device.id,
        "component": device.component,
        "model": device.model,
        "index": device.index,
        "method": method_of(reading) if tells else None,
        "signal": reading.power_signal if tells and reading.energy_j is None else None,
        "summed": device.is_part,
        "within": device.within,
        "estimated": device.origin is Origin.ESTIMATED,
        "error_ratio": device.error_ratio,
        "plausible_power_w": device.max_power_w,
        "calibration_ratio": device.calibration_ratio,
        "slices": list(device.slices),
    }


def _grid(wiring: Wiring, *, offline: bool) -> dict[str, Any]:
    now_s = clock.now().wall_s
    policy = wiring.policy
    rate = next((rate for rate in wiring.rates(now_s, now_s + 1.0) if rate.valid_from_s <= now_s), None)
    found = {
        "zone": wiring.zone,
        "found": policy.zone_found,
        "device_zones": dict(policy.zones),
        "pue_ratio": policy.pue_ratio,
        "currency": policy.currency or None,
        "price_per_kilowatthour": rate.amount if rate is not None else None,
        "price_problem": getattr(wiring.rates, "problem", ""),
    }
    answers = [] if offline else _ask(wiring)
    found["feeds"] = [_feed(answer, now_s) for answer in answers] if not offline else _unasked(wiring)
    if wiring.zone is None:
        return found | {"text": policy.zone_found}
    slots = wiring.grid.intensities(clock.now())
    if any(answer.slots for answer in answers):
        from monitor.cli.grid_known import preferred

        of_zone = [slot for answer in answers for slot in answer.slots]
        feeds = [answer.feed for answer in answers]
        slots = preferred(of_zone, feeds, wiring.statics[wiring.zone], wiring.zone, now_s)
    of_now = in_use(slots, now_s)
    slot = next(slot for slot in of_now if slot.zone == wiring.zone and slot.signal is Signal.AVERAGE)
    return found | {
        "grams_per_kilowatthour": slot.grams_per_kilowatthour,
        "basis": slot.basis,
        "quality": slot.quality,
        "provider": slot.provider,
        "text": f"{slot.zone} {slot.grams_per_kilowatthour:g} g/kWh, {slot.quality}: {slot.detail}",
    }


def _ask(wiring: Wiring) -> list[Answered]:
    """Each provider once, for the first zone that it is to be asked for: that tells whether it can be reached."""
    questions: dict[str, tuple[str, Feed]] = {}
    for zone, plan in wiring.plans.items():
        for feed in plan:
            questions.setdefault(feed.about.name, (zone, feed))
    return ask_each(list(questions.values()), Want.LATEST)


def _unasked(wiring: Wiring) -> list[dict[str, Any]]:
    return [
        {"provider": feed.about.name, "zone": zone, "state": "not asked"}
        for zone, plan in wiring.plans.items()
        for feed in plan
    ]


UNREACHED = frozenset({"network", "timeout"})


def _feed(answer: Answered, now_s: float) -> dict[str, Any]:
    about = answer.feed.about
    past = [slot for slot in answer.slots if slot.valid_from_s <= now_s]
    newest = max(past, key=lambda slot: slot.valid_until_s, default=None)
    return {
        "provider": about.name,
        "zone": answer.zone,
        "state": "answers" if not answer.reason else answer.reason,
        "reachable": answer.reason not in UNREACHED,
        "key_ok": answer.reason not in {"key", "plan"} if about.needs_key and answer.reason not in UNREACHED else None,
        "grams_per_kilowatthour": newest.grams_per_kilowatthour if newest is not None else None,
        "quality": newest.quality if newest is not None else None,
        "signal": newest.signal if newest is not None else None,
        "age_s": max(0.0, now_s - newest.valid_until_s) if newest is not None else None,
        "problem": answer.problem,
        "notice": about.notice,
    }


def words(findings: dict[str, Any]) -> list[str]:
    """The findings as lines for people."""
    lines: list[str] = []
    for source in findings["sources"]:
        count, every = len(source["devices"]), source["period_s"]
        state = f"{count} {'device' if count == 1 else 'devices'}, read every {every:g} s" if count else source["state"]
        lines.append(f"{source['source']}: {state}" + (f": {source['note']}" if "note" in source else ""))
        lines += [f"  ! {problem}" for problem in source["problems"]]
        lines += [f"  {_device_words(device)}" for device in source["devices"]]
        lines += [f"  - seen, not used: {unused}" for unused in source.get("seen_not_used", [])]
    lines.append(
        f"summed: {', '.join(findings['summed']) or 'nothing'} (disjoint parts, so that no joule counts twice)"
    )
    if findings["estimated"]:
        lines.append(f"estimated, apart from the sum: {', '.join(findings['estimated'])}")
    lines.append(f"not measured: {', '.join(findings['not_measured'])}")
    lines += _grid_words(findings["grid"])
    lines.append("runs that nobody registers:")
    lines += [f"  {'+' if line['works'] else '-'} {line['text']}" for line in findings["runs"]]
    return lines


def _grid_words(grid: dict[str, Any]) -> list[str]:
    lines = [f"grid: {grid['text']}"]
    if grid["zone"] is not None:
        lines.append(f"  zone {grid['zone']}: {grid['found']}")
    lines += [f"  device {device}: zone {zone}" for device, zone in grid["device_zones"].items()]
    for feed in grid["feeds"]:
        value = ""
        if feed.get("grams_per_kilowatthour") is not None:
            value = f": {feed['grams_per_kilowatthour']:g} g/kWh, {feed['quality']}, {_age(feed['age_s'])}"
        lines.append(f"  feed {feed['provider']} for {feed['zone']}: {feed['state']}{value}")
        lines += [f"    ! {feed[word]}" for word in ("problem", "notice") if feed.get(word)]
    if not grid["feeds"]:
        lines.append("  no feed: the yearly value is all there is")
    price = grid["price_per_kilowatthour"]
    if grid["currency"]:
        told = f"{price:g} {grid['currency']} a kWh now" if price is not None else "none of now"
        lines.append(f"  price: {told}" + (f"; {grid['price_problem']}" if grid["price_problem"] else ""))
    lines.append(f"  PUE: {grid['pue_ratio']:g}")
    return lines


def _age(age_s: float) -> str:
    return f"its interval ended {age_s / 60.0:.0f} min ago" if age_s else "within its interval"


HOW = {
    "counter": "energy counter",
    "integrated": "power, integrated",
    "estimated": f"estimate from utilisation, +-{ERROR_BAND_RATIO:.0%}",
    "simulated": "simulated",
}


def _device_words(device: dict[str, Any]) -> str:
    how = HOW[device["method"]] if device["method"] else "no counter and no power sensor: unmeasured"
    if device["signal"] is PowerSignal.INSTANT:
        how += " at 10 Hz (a sensor of the moment)"
    place = "" if device["summed"] else f"; within {device['within']}: shown, never added"
    slices = f"; {len(device['slices'])} MIG slices share it" if device["slices"] else ""
    factor = f"; x {device['calibration_ratio']:g}" if device["calibration_ratio"] != 1.0 else ""
    return f"{device['id']}  {device['component']}  {device['model'] or '-'}  {how}{factor}{slices}{place}"
