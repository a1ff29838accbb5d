"""The tables of the settings: accounts of feeds, price of electricity, what making a device emitted, budgets of runs.

[feed.electricitymaps]        [price]                [price]                              [embodied.gpu]
key_file = "/etc/tw/em.key"   currency = "EUR"       currency = "EUR"                     kilograms = 150
                              flat = 0.31            timezone = "Europe/Berlin"           years = 4
                                                     times = [{from = "22:00", until = "06:00", amount = 0.19}]
[budget]                      [budget.project.vision]
energy_kwh = 500              cost = 40
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from monitor.core import budget

FEED_VARIABLE = re.compile(
    "TRAINWATT_FEED_(?P<provider>[A-Z0-9_]+?)_(?P<name>KEY_FILE|PASSWORD_FILE|BASE_URL|KEY|USER|PASSWORD)"
)
"""Names of the environment that belong to one provider: TRAINWATT_FEED_ELECTRICITYMAPS_KEY."""
SECRETS = ("key", "password")
CURRENCY = re.compile("[A-Z]{3}")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_PER_DAY = 1440
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_OTHERS_NEED = 0.8
BudgetAmount = Annotated[float | None, Field(ge=budget.LEAST, le=budget.MOST, allow_inf_nan=False)]
_SHORT_NAMES = {"key": 0.6, "user": 0.66}
"""A mistake in a short name is more of it."""


class Table(BaseModel):
    """One table of the file: an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeedTable(BaseModel):
    """[feed.PROVIDER]: how to ask it. Keys beside these are the provider's own words, handed to it as text."""

    model_config = ConfigDict(extra="allow", frozen=True)

    base_url: str | None = None
    """In place of the provider's own, for proxies and tests."""
    key: SecretStr | None = None
    key_file: Path | None = None
    user: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None

    @field_validator("base_url")
    @classmethod
    def _plain(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("expected an address such as https://proxy.example.org/neso")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "expected an address without user, password, ? and #: name user and password by themselves"
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _consistent(self) -> "FeedTable":
        for secret in SECRETS:
            if getattr(self, secret) is not None and getattr(self, f"{secret}_file") is not None:
                raise ValueError(f"expected either {secret} or {secret}_file, not both")
        for name, value in self.options.items():
            _refuse_mistyped(name, type(self).model_fields)
            if not isinstance(value, str | int | float):
                raise ValueError(f"expected text, a number or true or false for {name}")  # noqa: TRY004
        return self

    @property
    def options(self) -> Mapping[str, Any]:
        """The provider's own words."""
        return self.model_extra or {}

    def shown(self) -> str:
        """What is set, for people: no secret, and of the provider's own words the names only."""
        plain = [
            f"{name} {value}"
            for name in ("base_url", "user", "key_file", "password_file")
            if (value := getattr(self, name))
        ]
        hidden = [f"{name} **********" for name in SECRETS if getattr(self, name) is not None]
        return ", ".join([*plain, *hidden, *self.options]) or "nothing"


def _refuse_mistyped(name: str, known: Iterable[str]) -> None:
    """A mistyped `key` must not pass for a word of the provider's own."""
    for right in known:
        likeness = difflib.SequenceMatcher(None, name, right).ratio()
        if likeness >= _SHORT_NAMES.get(right, _OTHERS_NEED):
            raise ValueError(f"unknown key {name!r}; did you mean {right!r}?")


class TimeOfUse(Table):
    """A price that holds between two times of day, on some days of the week."""

    model_config = ConfigDict(populate_by_name=True)

    from_time: str = Field(alias="from")
    """HH:MM by the clock of the price's time zone."""
    until: str
    """HH:MM; at or before `from` it is of the next day."""
    days: str = "mon-sun"
    """Days on which it begins: mon-fri, or sat,sun."""
    amount: Annotated[float, Field(allow_inf_nan=False)]

    @field_validator("from_time", "until")
    @classmethod
    def _time(cls, text: str) -> str:
        if not _TIME.fullmatch(text):
            raise ValueError("expected a time of day such as 06:00")
        return text

    @field_validator("days")
    @classmethod
    def _days(cls, text: str) -> str:
        weekdays(text)
        return text

    @model_validator(mode="after")
    def _begins(self) -> "TimeOfUse":
        if self.from_time in {"24:00", self.until}:
            raise ValueError("expected two different times; a whole day is from 00:00 until 24:00")
        return self

    @property
    def from_minute(self) -> int:
        """Minutes after midnight."""
        return _minute(self.from_time)

    @property
    def until_minute(self) -> int:
        """Minutes after the midnight before `from`: more than a day where it is of the next."""
        minute = _minute(self.until)
        return minute if minute > self.from_minute else minute + MINUTES_PER_DAY


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)


def weekdays(text: str) -> list[int]:
    """Days of the week, Monday = 0, of `mon-fri`, `sat,sun` or `fri-mon`. Raises ValueError."""
    days: list[int] = []
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError("expected days such as mon-fri or sat,sun")
        start = DAYS.index(first)
        count = (DAYS.index(last) - start) % 7 + 1 if dash else 1
        days += [(start + day) % 7 for day in range(count)]
    return sorted(set(days))


class PriceTable(Table):
    """[price]: what a kilowatt-hour costs."""

    currency: str
    flat: Annotated[float | None, Field(allow_inf_nan=False)] = None
    """At any time; beside `times` or `file`: at those that they leave out."""
    times: tuple[TimeOfUse, ...] = ()
    timezone: str | None = None
    file: Path | None = None
    """JSON that somebody else keeps up to date: [{"from": "2026-11-21T12:00Z", "until": ..., "amount": 0.3}, ...]."""

    @field_validator("currency")
    @classmethod
    def _currency(cls, text: str) -> str:
        if not CURRENCY.fullmatch(text):
            raise ValueError("expected a currency by its three letters, such as EUR")
        return text

    @model_validator(mode="after")
    def _complete(self) -> "PriceTable":
        if self.flat is None and not self.times and self.file is None:
            raise ValueError("expected flat = AMOUNT, times = [...] or file = PATH beside the currency")
        if self.times and self.file is not None:
            raise ValueError("expected times or file, not both")
        if self.times and not self.timezone:
            raise ValueError('expected the time zone of the times, such as timezone = "Europe/Berlin"')
        return self


class EmbodiedTable(Table):
    """[embodied.ID] or [embodied.COMPONENT]: what making the device emitted, and how long it is expected to be used."""

    kilograms: Annotated[float, Field(ge=0.0, le=1e7, allow_inf_nan=False)]
    years: Annotated[float, Field(gt=0.0, le=100.0, allow_inf_nan=False)]


class BudgetAmounts(Table):
    """[budget.project.NAME]: what a whole run may use, all its nodes together."""

    energy_kwh: BudgetAmount = None
    co2e_kg: BudgetAmount = None
    cost: BudgetAmount = None
    """In the currency of the price."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """A table of tables is mistyped in many places: each key is judged beside those that may stand there."""
        for name in given if isinstance(given, Mapping) else ():
            if name not in cls.model_fields:
                near = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key {name!r}; {hint}")
        return given

    def amounts(self) -> dict[str, float | None]:
        """By key; None = it says nothing of this one."""
        return {"energy_kwh": self.energy_kwh, "co2e_kg": self.co2e_kg, "cost": self.cost}


class BudgetTable(BudgetAmounts):
    """[budget]: of every run that names none itself.

    The table of a project completes it key by key: what that leaves out is as here. So do the tags of a run with both.
    """

    project: dict[str, BudgetAmounts] = {}


def from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Accounts of providers as the environment tells them, by provider."""
    accounts: dict[str, dict[str, str]] = {}
    for variable, value in environ.items():
        match = FEED_VARIABLE.fullmatch(variable)
        if match and value:
            accounts.setdefault(match["provider"].lower(), {})[match["name"].lower()] = value
    return accounts


def over(lower: Any, upper: Mapping[str, Mapping[str, Any]]) -> Any:
    """The accounts of a higher layer laid over those of a lower one, key by key."""
    if not isinstance(lower, Mapping):
        return lower if lower is not None else upper
    merged = dict(lower)
    for provider, account in upper.items():
        below = lower.get(provider)
        kept = dict(below) if isinstance(below, Mapping) else {}
        for secret in SECRETS:  # whichever way a secret came from below, the one from above replaces it
            if secret in account or f"{secret}_file" in account:
                kept.pop(secret, None)
                kept.pop(f"{secret}_file", None)
        merged[provider] = kept | dict(account)
    return merged
