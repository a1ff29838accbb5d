"""`trainwatt config`: each value and where it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from monitor.cli.options import PLACEHOLDERS, load_settings, settings_flags
from monitor.tables import FeedTable


@click.command()
@settings_flags(*PLACEHOLDERS)
def config(config: Path | None, **flags: Any) -> None:
    """Show every setting, its origin and what it is for."""
    loaded = load_settings(config, flags)
    fields = type(loaded.settings).model_fields
    rows = [(name, _shown(getattr(loaded.settings, name)), loaded.origins[name]) for name in fields]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for (name, value, origin), field in zip(rows, fields.values(), strict=True):
        line = f"{name:{widths[0]}} = {value:{widths[1]}}  {origin:{widths[2]}}  # {field.description}"
        click.echo(line)
    for warning in loaded.warnings:
        click.echo(f"trainwatt: {warning}", err=True)


def _shown(value: object) -> str:
    if value is None or value == {}:
        return "-"
    if value == ():
        return "none"
    if isinstance(value, FeedTable):
        return value.shown()
    if isinstance(value, BaseModel):
        given = value.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
        return ", ".join(f"{name} {one}" for name, one in given.items())
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_shown(one)}" for name, one in value.items())
    return ", ".join(value) if isinstance(value, tuple) else str(value)
