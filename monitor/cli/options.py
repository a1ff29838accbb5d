"""The flags that are settings: made from `monitor.config`, so that each is written once."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from monitor.config import Settings
from monitor.layers import Loaded, load

Command = Callable[..., Any]

PLACEHOLDERS = {
    "listen": "HOST:PORT",
    "expose": "",
    "mock": "[SCENARIO|FILE]",
    "zone": "ZONE",
    "cloud_region": "PROVIDER:REGION",
    "cloud_metadata": "",
    "feeds": "NAME,...|none",
    "relay": "",
    "interval": "SECONDS",
    "pue": "RATIO",
    "market_intensity": "GRAMS",
    "water_liters_per_kilowatthour": "LITERS",
    "sysfs": "DIR",
    "procfs": "DIR",
    "estimate_cpu_tdp": "WATTS",
    "socket": "PATH",
    "state_dir": "DIR",
    "retention_days": "DAYS",
}


def settings_flags(*names: str) -> Callable[[Command], Command]:
    """`--config` and the named settings as flags; they reach the command as `config` and by name, as text or None."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            field = Settings.model_fields[name]
            default = "" if field.default is None else f"  [default: {field.default}]"
            extra: dict[str, Any] = {"metavar": PLACEHOLDERS[name]}
            if name == "mock":
                extra |= {"is_flag": False, "flag_value": "training"}
            if isinstance(field.default, bool):
                extra, default = {"is_flag": True, "default": None}, ""
            option = click.option(f"--{name.replace('_', '-')}", help=f"{field.description}{default}", **extra)
            command = option(command)
        file = click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="settings as TOML")
        return file(command)

    return decorate


def load_settings(config: Path | None, flags: dict[str, Any]) -> Loaded:
    """Settings of this call. Raises UsageError."""
    return load(flags, config)


def log_to_stderr(loaded: Loaded) -> None:
    """Send the log to stderr, one line an event, and say what was odd about the settings."""
    logging.basicConfig(level=logging.INFO, format="trainwatt: %(message)s")
    for warning in loaded.warnings:
        logging.getLogger("trainwatt").warning("%s", warning)
