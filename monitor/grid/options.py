"""What the settings say in a provider's own words: `[feed.NAME]` beside URL, key, user and password."""

import difflib
from collections.abc import Collection, Iterable, Mapping

from monitor.errors import UsageError

YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"0", "false", "no", "off", ""})


class Options:
    """The options of one provider. Every complaint is a UsageError that names the option and what it expects."""

    def __init__(self, provider: str, options: Mapping[str, str], known: Collection[str]) -> None:
        self._provider = provider
        self._options = {name: str(value).strip() for name, value in options.items()}
        for name in self._options:
            if name not in known:
                raise UsageError(f"feed.{provider}: unknown option {name!r}{nearest(name, known)}")

    def text(self, name: str, default: str = "") -> str:
        """Words as they stand."""
        return self._options.get(name, default)

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of some words."""
        word = self._options.get(name, default)
        if word not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return word

    def flag(self, name: str) -> bool:
        """Whether it is asked for; not unless it is."""
        word = self._options.get(name, "").lower()
        if word not in YES | NO:
            raise self.wrong(name, "true or false")
        return word in YES

    def wrong(self, name: str, expected: str) -> UsageError:
        """The complaint about an option."""
        return UsageError(f"feed.{self._provider}: {name} = {self._options.get(name, '')!r}: expected {expected}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the name that somebody meant, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
