"""Every setting, once: name, default, unit and help. Defaults < file < TRAINWATT_* environment < flags."""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from monitor.errors import UsageError

ENV_PREFIX = "TRAINWATT_"
RESERVED_ENVIRONMENT = frozenset({"TRAINWATT_RUN", "TRAINWATT_SOCKET", "TRAINWATT_TRACEBACK"})
"""Names that mean something else than a setting: the id a job was given, and where its files are."""
SHORTEST_INTERVAL_S = 0.1
LONGEST_INTERVAL_S = 60.0


TABLES = {"privacy": ("user", "salt")}
"""Tables of the file; [privacy] user is the setting privacy_user."""


class UserPrivacy(StrEnum):
    """What is shown of the user of a run."""

    NAME = auto()
    HASH = auto()
    OFF = auto()


def _host_and_port(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 2**16):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:9595 or [::1]:9595")
    return text


class Settings(BaseSettings):
    """The daemon's settings, as `trainwatt config` shows them."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    listen: Annotated[str, AfterValidator(_host_and_port)] = Field(
        "127.0.0.1:9595", description="HOST:PORT of the page, the API and /metrics"
    )
    expose: bool = Field(
        False,  # noqa: FBT003  (the default)
        description="serve the page and the API beyond loopback, too, not only /metrics and the health probes",
    )
    mock: str | None = Field(
        None, description="simulate devices: a scenario (training), or a file of `trainwatt record`"
    )
    zone: str | None = Field(None, description="grid zone of this machine, such as DE, FR or EGRID-CAMX; sets grams")
    interval: float = Field(
        1.0,
        ge=SHORTEST_INTERVAL_S,
        le=LONGEST_INTERVAL_S,
        allow_inf_nan=False,
        description="seconds between readings of devices with an energy counter",
    )
    pue: float = Field(
        1.0, ge=1.0, le=10.0, allow_inf_nan=False, description="power usage effectiveness of the site, for grams only"
    )
    sysfs: Path = Field(Path("/sys"), description="root of the kernel's device tree")
    procfs: Path = Field(Path("/proc"), description="root of the kernel's process tree")
    estimate_cpu_tdp: float | None = Field(
        None,
        gt=0.0,
        le=10_000.0,
        allow_inf_nan=False,
        description="opt in to an estimate of CPU power (+-30 %) where no sensor is: thermal design power, in watts",
    )
    calibration: dict[str, Annotated[float, Field(ge=0.5, le=2.0)]] = Field(
        default_factory=dict,
        description="factors for the joules of single devices by id, from a comparison with a meter; 1 unless given",
    )
    socket: Path | None = Field(
        None,
        description="Unix socket for trainwatt's own commands; default /run/trainwatt/socket for root, else in the "
        "user's runtime directory",
    )

    state_dir: Path | None = Field(
        None,
        description="directory of the ledger, on a local disk; default /var/lib/trainwatt for root, else in the "
        "user's state directory",
    )
    retention_days: int | None = Field(
        None, ge=1, le=36_500, description="days after which the ledger forgets; kept for ever unless given"
    )
    discover: bool = Field(
        True,  # noqa: FBT003  (the default)
        description="find runs that nobody registered: by the processes on GPUs, by Slurm, by TRAINWATT_RUN",
    )
    privacy_user: UserPrivacy = Field(
        UserPrivacy.NAME,
        description="what is shown of the user of a run, everywhere: name, hash or off; in the file [privacy] user",
    )
    privacy_salt: SecretStr = Field(
        SecretStr(""),
        description="secret that users are hashed with, the same on all nodes: without one, names can be guessed; in "
        "the file [privacy] salt",
    )

    @classmethod
    def settings_customise_sources(  # noqa: D102  (of pydantic-settings)
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` lays file, environment and flags over each other itself, since it must know where each value is from.
        return (init_settings,)

    @property
    def listen_host(self) -> str:
        """Host part of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def serves_everything(self) -> bool:
        """Whether page and API are served: on loopback, and elsewhere only when asked."""
        try:
            return self.expose or ipaddress.ip_address(self.listen_host).is_loopback
        except ValueError:
            return self.listen_host == "localhost"

    @property
    def listen_port(self) -> int:
        """Port part of `listen`."""
        return int(self.listen.rpartition(":")[2])


class Loaded:
    """Settings, where each value came from, and what was odd on the way."""

    def __init__(self, settings: Settings, origins: Mapping[str, str], warnings: Iterable[str]) -> None:
        self.settings = settings
        self.origins = dict(origins)
        self.warnings = tuple(warnings)


def load(flags: Mapping[str, Any], file: Path | None) -> Loaded:
    """Put the settings together. `flags` holds what was given on the command line; None = not given.

    Raises UsageError with one line: which value is wrong, where it stands, and what is expected.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("environment", EnvSettingsSource(Settings)()),
        ("flag", {name: value for name, value in flags.items() if value is not None}),
    ]
    if file is not None:
        layers.insert(0, (f"file {file}", _read(file)))
    merged: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for origin, layer in layers:
        merged |= layer
        origins |= dict.fromkeys(layer, origin)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise UsageError(_explain(error, origins)) from error
    return Loaded(settings, origins, _unknown_names(os.environ))


def _read(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not a TOML file: {error}") from error
    in_tables = {f"{table}.{key}": f"{table}_{key}" for table, keys in TABLES.items() for key in keys}
    known = {name: name for name in Settings.model_fields if name not in in_tables.values()} | in_tables
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in TABLES and not isinstance(value, dict):
            raise UsageError(f"{file}: {key} is a table: write [{key}], and below it {' and '.join(TABLES[key])}")
        flat |= {f"{key}.{inner}": one for inner, one in value.items()} if key in TABLES else {key: value}
    for key in flat:
        if key not in known:
            raise UsageError(f"{file}: unknown key {key!r}{_near(key, known)}")
    return {known[key]: value for key, value in flat.items()}


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Clusters inject such names, so an unknown one is worth a warning, not an error."""
    known = {_variable(name) for name in Settings.model_fields} | RESERVED_ENVIRONMENT
    return [
        f"{name} in the environment is no setting of trainwatt{_near(name, known)}"
        for name in sorted(environ)
        if name.startswith(ENV_PREFIX) and name not in known
    ]


def _near(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = "(hidden)" if Settings.model_fields[name].annotation is SecretStr else repr(first["input"])
    return f"{name} = {given} ({origins.get(name, 'flag')}): expected {expected.removeprefix('expected ')}"
