"""What is shown of the user of a run, by the setting privacy.user: the name, a hash of it, or nothing.

A hash is the same on all nodes of one salt. Whatever is shown, the ledger finds the runs of a user by name.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import replace

from monitor.config import UserPrivacy
from monitor.core.model import Run
from monitor.runs.membership import user_name
from monitor.runs.memory import owner_of

DIGEST_CHARACTERS = 10
"""Of the hash: so many tell a million users apart."""

_HASH = re.compile(rf"u-[0-9a-f]{{{DIGEST_CHARACTERS}}}")

NameOf = Callable[[int], str]


def hashed(name: str, salt: str) -> str:
    """A name that tells who has the salt, or guesses it, whether it is this one; else it tells nothing."""
    digest = hmac.new(salt.encode("utf-8", "surrogateescape"), name.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return f"u-{digest.hexdigest()[:DIGEST_CHARACTERS]}"


def user_shown(mode: UserPrivacy, salt: str, name_of: NameOf = user_name) -> Callable[[int], str]:
    """What a run's `user` is, by user id. May wait for a directory service, as all that name a user here."""
    if mode is UserPrivacy.OFF:
        return lambda _uid: ""
    return user_scope(mode, salt, name_of)


def user_scope(mode: UserPrivacy, salt: str, name_of: NameOf = user_name) -> Callable[[int], str]:
    """What stands behind the @ where two users' runs go by one id: never empty, else one could have the other's run."""
    if mode is UserPrivacy.NAME:
        return name_of
    return lambda uid: hashed(name_of(uid), salt)


def shown_now(mode: UserPrivacy, salt: str) -> Callable[[Run], Run]:
    """What is shown of a run that was kept while its user was shown otherwise. What was hidden stays hidden."""

    def shown(run: Run) -> Run:
        if mode is UserPrivacy.NAME or not run.user:
            return run
        if mode is UserPrivacy.OFF:
            return replace(run, user="")
        return run if _HASH.fullmatch(run.user) else replace(run, user=hashed(run.user, salt))

    return shown


def filed_under(mode: UserPrivacy, salt: str, name_of: NameOf = user_name) -> Callable[[Run], str]:
    """What the ledger finds the runs of a user by."""
    scope = user_scope(mode, salt, name_of)

    def key(run: Run) -> str:
        uid = owner_of(run) if mode is UserPrivacy.OFF and not run.user else None
        return run.user if uid is None else scope(uid)

    return key


def filed_names(salt: str) -> Callable[[str], tuple[str, ...]]:
    """Everything that the runs of a user of this name may be filed under, as the setting may have been another one."""
    return lambda name: (name, hashed(name, salt))
