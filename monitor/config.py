"""Every setting, once: name, default, unit and help. `monitor.layers` puts them together."""

import ipaddress
from collections.abc import Mapping
from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from monitor import tables

ENV_PREFIX = "TRAINWATT_"
SHORTEST_INTERVAL_S = 0.1
LONGEST_INTERVAL_S = 60.0


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


def _providers(value: Any) -> Any:
    """Names of providers in order: a list, or text with commas; or a table of such lists by grid zone."""
    if isinstance(value, Mapping):
        return {str(zone): _providers(names) for zone, names in value.items()}
    if isinstance(value, str):
        value = [] if value.strip().lower() == "none" else [name.strip() for name in value.split(",")]
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("expected names such as electricitymaps,neso, or none")
    return tuple(value)


def _region(text: str | None) -> str | None:
    if text is not None and not all(text.partition(":")):
        raise ValueError("expected PROVIDER:REGION, such as aws:us-east-1")
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
    cloud_region: Annotated[str | None, AfterValidator(_region)] = Field(
        None,
        description="PROVIDER:REGION that this machine is in, such as aws:us-east-1; tells the zone unless it is set",
    )
    cloud_metadata: bool = Field(
        False,  # noqa: FBT003  (the default)
        description="ask the cloud's metadata service (a link-local address) for the region where neither is set",
    )
    device_zones: dict[str, str] = Field(
        default_factory=dict, description="zones of devices that are fed from another grid, by device id"
    )
    feeds: Annotated[tuple[str, ...] | dict[str, tuple[str, ...]] | None, NoDecode, BeforeValidator(_providers)] = (
        Field(
            None,
            description="providers of live carbon intensity to ask, in order, or none; in the file also a table by "
            "zone; unless given, those that know the zone and need no key, and those with an account",
        )
    )
    feed: dict[str, tables.FeedTable] = Field(
        default_factory=dict,
        description="accounts of providers: [feed.NAME] with key_file, key, user, password_file, base_url; in the "
        "environment TRAINWATT_FEED_NAME_KEY and so on",
    )
    relay: bool = Field(
        False,  # noqa: FBT003  (the default)
        description="answer other trainwatts' questions for intensities, also beyond loopback",
    )
    price: tables.PriceTable | None = Field(
        None, description="what electricity costs: [price] with currency, and flat, times and timezone, or file"
    )
    embodied: dict[str, tables.EmbodiedTable] = Field(
        default_factory=dict,
        description="what making devices emitted: [embodied.ID] or [embodied.COMPONENT] with kilograms and years",
    )
    budget: tables.BudgetTable | None = Field(
        None,
        description="what a whole run may use: [budget] with energy_kwh, co2e_kg and cost, for runs of a project in "
        "[budget.project.NAME]; a run's own tags budget_energy_kwh, budget_co2e_kg and budget_cost come first",
    )
    market_intensity: float | None = Field(
        None,
        ge=0.0,
        le=2500.0,
        allow_inf_nan=False,
        description="grams per kWh of the site's contracts (market-based), counted beside the grid's",
    )
    water_liters_per_kilowatthour: float | None = Field(
        None, ge=0.0, le=1000.0, allow_inf_nan=False, description="water of the site, counted with a run's energy"
    )
    interval: float = Field(
        1.0,
        ge=SHORTEST_INTERVAL_S,
        le=LONGEST_INTERVAL_S,
        allow_inf_nan=False,
        description="seconds between readings of devices with an energy counter",
    )
    pue: float = Field(
        1.0,
        ge=1.0,
        le=10.0,
        allow_inf_nan=False,
        description="power usage effectiveness of the site, for grams and costs",
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
