"""The layers of the settings: defaults < file < TRAINWATT_* environment < flags. Each value knows where it is from."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from monitor import tables
from monitor.config import ENV_PREFIX, Settings
from monitor.errors import UsageError
from monitor.secret_files import require_private

RESERVED_ENVIRONMENT = frozenset({"TRAINWATT_RUN", "TRAINWATT_SOCKET", "TRAINWATT_TRACEBACK"})
"""Names that mean something else than a setting: the id a job was given, and where its files are."""

TABLES = {"privacy": ("user", "salt")}
"""Tables of the file; [privacy] user is the setting privacy_user."""


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
        ("environment", _environment()),
        ("flag", {name: value for name, value in flags.items() if value is not None}),
    ]
    if file is not None:
        layers.insert(0, (f"file {file}", _read(file)))
    merged: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for origin, layer in layers:
        origins |= dict.fromkeys(layer, origin)
        if "feed" in layer and "feed" in merged:  # an account may be in the file and its key in the environment
            merged |= {**layer, "feed": tables.over(merged["feed"], layer["feed"])}
            origins["feed"] = f"{layers[0][0]}, {origin}"
        else:
            merged |= layer
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise UsageError(_explain(error, origins)) from error
    return Loaded(settings, origins, _unknown_names(os.environ))


def _environment() -> dict[str, Any]:
    try:
        values: dict[str, Any] = EnvSettingsSource(Settings)()
    except SettingsError as error:
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        raise UsageError(f"{_variable(name)} in the environment: expected JSON, such as an object") from error
    accounts = tables.from_environment(os.environ)
    return values | {"feed": tables.over(values.get("feed"), accounts)} if accounts else values


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
    if _has_key(flat.get("feed")):
        require_private(file, "it contains a key")
    return {known[key]: value for key, value in flat.items()}


def _has_key(accounts: Any) -> bool:
    """Whether a secret of a provider stands in the file itself."""
    tables_of = accounts.values() if isinstance(accounts, dict) else ()
    return any(isinstance(account, dict) and not account.keys().isdisjoint(tables.SECRETS) for account in tables_of)


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Clusters inject such names, so an unknown one is worth a warning, not an error."""
    known = {_variable(name) for name in Settings.model_fields} | RESERVED_ENVIRONMENT
    return [
        f"{name} in the environment is no setting of trainwatt{_near(name, known)}"
        for name in sorted(environ)
        if name.startswith(ENV_PREFIX) and name not in known and not tables.FEED_VARIABLE.fullmatch(name)
    ]


def _near(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors()[0]
    name, place = str(first["loc"][0]), ".".join(str(part) for part in first["loc"])
    origin = origins.get(name, "flag")
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r} ({origin}){_near(place, _keys_beside(first['loc']))}"
    if first["type"] == "missing":
        return f"{place} ({origin}): it is missing"
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] in {"dict_type", "model_type"}:
        expected = "a table; in the environment, a JSON object"
    expected = expected if expected.startswith("unknown key") else f"expected {expected.removeprefix('expected ')}"
    # Of an account nothing is shown: a key may stand in the wrong place.
    is_secret = name == "feed" or Settings.model_fields[name].annotation is SecretStr
    given = "" if isinstance(first["input"], Mapping | list | BaseModel) else f" = {first['input']!r}"
    return f"{place}{' = (hidden)' if is_secret and given else given} ({origin}): {expected}"


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    """Every key that may stand where an unknown one was found, as it is written in the file."""
    name, inner = str(loc[0]), len(loc) - 1
    models: dict[tuple[str, int], type[BaseModel]] = {
        ("price", 1): tables.PriceTable,
        ("price", 3): tables.TimeOfUse,
        ("embodied", 2): tables.EmbodiedTable,
    }
    model = models.get((name, inner))
    above = ".".join(str(part) for part in loc[:-1])
    fields = model.model_fields.items() if model is not None else ()
    return [f"{above}.{field.alias or key}" for key, field in fields]
