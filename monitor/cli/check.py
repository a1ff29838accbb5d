"""`trainwatt check`: what is measured here, what is not, and the remedy. It starts nothing and leaves nothing open."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from monitor import app, clock
from monitor.cli.options import load_settings, settings_flags
from monitor.config import Settings
from monitor.core.energy import method_of
from monitor.core.model import Component, Reading
from monitor.core.ports import Source
from monitor.errors import SourceError

NEVER_MEASURED = ("fans", "network", "disks", "power supply losses")


@click.command()
@settings_flags("mock", "zone", "interval", "sysfs")
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
def check(config: Path | None, as_json: bool, **flags: Any) -> None:  # noqa: FBT001  (click passes flags so)
    """Exit 0 when something can be measured, 1 when nothing can."""
    loaded = load_settings(config, flags)
    findings = _inspect(loaded.settings)
    if as_json:
        click.echo(json.dumps(findings, indent=2))
    else:
        for line in _lines(findings):
            click.echo(line)
    sys.exit(0 if any(source["devices"] for source in findings["sources"]) else 1)


def _lines(findings: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for source in findings["sources"]:
        state = f"{len(source['devices'])} devices" if source["devices"] else "nothing"
        lines.append(f"{source['source']}: {state}")
        lines += [f"  ! {problem}" for problem in source["problems"]]
        lines += [
            f"  {device['id']}  {device['component']}  {device['model'] or '-'}  energy by {device['energy_by']}"
            for device in source["devices"]
        ]
    grid = findings["grid"]
    lines.append(f"grid: {grid['text']}")
    lines.append(f"not measured: {', '.join(findings['not_measured'])}")
    return lines


def _inspect(settings: Settings) -> dict[str, Any]:
    """Open and read each source once. Raises UsageError for settings that cannot be meant."""
    wiring = app.wire(settings)
    sources = [_look(source) for source in wiring.sources]
    found = {device["component"] for source in sources for device in source["devices"]}
    missing = [part for part in (Component.GPU, Component.CPU, Component.DRAM) if part not in found]
    return {
        "sources": sources,
        "grid": _grid(wiring),
        "not_measured": [*missing, *NEVER_MEASURED],
    }


def _look(source: Source) -> dict[str, Any]:
    try:
        source.open()
    except SourceError as error:
        return {"source": source.name, "devices": [], "problems": [str(error)]}
    try:
        readout = source.read()
    except SourceError as error:
        return {"source": source.name, "devices": [], "problems": [str(error)]}
    finally:
        source.close()
    return {
        "source": source.name,
        "period_s": source.period_s,
        "devices": [_device(reading) for reading in readout.readings],
        "problems": sorted({failure.message for failure in readout.failures}),
    }


def _device(reading: Reading) -> dict[str, Any]:
    has_energy = reading.energy_j is not None or reading.power_w is not None
    return {
        "id": reading.device.id,
        "component": reading.device.component,
        "model": reading.device.model,
        "index": reading.device.index,
        "energy_by": str(method_of(reading)) if has_energy else "nothing: no counter and no power sensor",
        "plausible_power_w": reading.device.max_power_w,
    }


def _grid(wiring: app.Wiring) -> dict[str, Any]:
    slots = wiring.grid.intensities(clock.now())
    if not slots:
        return {
            "zone": None,
            "text": "no zone is set, so grams are absent; set one with --zone DE or TRAINWATT_ZONE=DE",
        }
    slot = slots[0]
    return {
        "zone": slot.zone,
        "grams_per_kilowatthour": slot.grams_per_kilowatthour,
        "basis": slot.basis,
        "quality": slot.quality,
        "provider": slot.provider,
        "text": f"{slot.zone} {slot.grams_per_kilowatthour:g} g/kWh, {slot.quality}: {slot.detail}",
    }
