"""`trainwatt dashboards`: what an existing Grafana and Prometheus need, copied from the package into a directory."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

import click

from monitor.errors import FailureError, UsageError

PLACES = {
    "json": "json",
    "rules/trainwatt.rules.yml": "rules/trainwatt.rules.yml",
    "stack/provisioning": "provisioning",
    "kubernetes": "kubernetes",
    "rules/trainwatt.prometheusrule.yml": "kubernetes/trainwatt.prometheusrule.yml",
}
"""A file or folder of the package, and where it goes."""
SUMS = "trainwatt.sha256"
"""What was written, as `sha256sum --check` reads it: a file that still has its sum is ours to replace."""
NAMED = 3
YOURS = (
    "provisioning/datasources/trainwatt.yml",
    "kubernetes/trainwatt.podmonitor.yml",
    "kubernetes/trainwatt.prometheusrule.yml",
)
"""Files that say themselves what to change in them: kept so, as long as ours is what it was."""


@click.command()
@click.argument("named", metavar="DIR")
@click.option("--force", is_flag=True, help="overwrite files that were changed, or that are not trainwatt's")
def dashboards(named: str, force: bool) -> None:  # noqa: FBT001  (of click)
    """Boards for Grafana, rules for Prometheus, provisioning for both, and the same for Kubernetes."""
    if not named:
        raise UsageError("DIR is empty; name the directory to write to, . for this one")
    directory = Path(named)
    texts = dict(_files())
    try:
        known = _known(directory)
        stale = {path: text for path, text in texts.items() if _sum_of(directory / path) != _sum(text)}
        kept = [
            path
            for path in YOURS
            if path in stale and not force and _is_kept(directory / path, texts[path], known.get(path))
        ]
        stale = {path: text for path, text in stale.items() if path not in kept}
        _refuse_changed(directory, stale, known, force=force)
        sums = "".join(f"{_sum(text)}  {path}\n" for path, text in sorted(texts.items()))
        _write(directory, stale if _sum_of(directory / SUMS) == _sum(sums.encode()) else {**stale, SUMS: sums.encode()})
    except OSError as error:
        what = error.filename or directory
        raise FailureError(
            f"cannot write to {directory}: {error.strerror or error} ({what}); name a directory with room that you may "
            "write to"
        ) from None
    _tell(directory, texts, changed=len(stale), gone=sorted(path for path in known.keys() - texts.keys()))
    for path in kept:
        click.echo(f"{directory / path} is kept as you changed it")


def _files() -> Iterator[tuple[str, bytes]]:
    """Path below DIR and content of each file. They were generated with the package; nothing is made here."""
    package = files("dashboards")
    for source, target in PLACES.items():
        for path, file in _below(package.joinpath(source), PurePosixPath(target)):
            yield path, file.read_bytes()


def _below(place: Traversable, path: PurePosixPath) -> Iterator[tuple[str, Traversable]]:
    if place.is_file():
        yield str(path), place
        return
    for inner in sorted(place.iterdir(), key=lambda one: one.name):
        yield from _below(inner, path / inner.name)


def _sum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _sum_of(path: Path) -> str | None:
    """Sum of a file; None where there is none. Raises OSError where something else is in its place."""
    if not os.path.lexists(path):
        return None
    if path.exists() and not path.is_file() and not path.is_dir():  # to read a pipe would take for ever
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return _sum(path.read_bytes())


def _is_kept(place: Path, text: bytes, known: str | None) -> bool:
    """Whether a file was changed by its owner, and not by trainwatt since it was written."""
    return known == _sum(text) and place.is_file()


def _known(directory: Path) -> dict[str, str]:
    """Sums of what an earlier call wrote, by path. A line that is none says nothing: its file counts as changed."""
    with contextlib.suppress(FileNotFoundError):
        lines = (directory / SUMS).read_text("utf-8", "replace").splitlines()
        return {path: digest for digest, _, path in (line.partition("  ") for line in lines) if path}
    return {}


def _refuse_changed(directory: Path, stale: Mapping[str, bytes], known: Mapping[str, str], *, force: bool) -> None:
    """Raises FailureError naming what is not an unchanged copy of ours."""
    there = {path: _sum_of(directory / path) for path in stale}
    changed = [path for path, digest in there.items() if digest is not None and digest != known.get(path)]
    if changed and not force:
        named = ", ".join(changed[:NAMED]) + (f" and {len(changed) - NAMED} more" if len(changed) > NAMED else "")
        raise FailureError(
            f"{named} in {directory} would be overwritten, and is not as trainwatt wrote it: nothing was written; "
            "move it away, or say --force"
        )


def _write(directory: Path, texts: Mapping[str, bytes]) -> None:
    """All of them or none: they are written beside their places first. Raises OSError."""
    if not texts:
        return
    places = {directory, *((directory / path).parent for path in texts)}
    made = [folder for place in places for folder in (place, *place.parents) if not folder.exists()]
    staged: Path | None = None
    try:
        for place in sorted(places):
            place.mkdir(parents=True, exist_ok=True)
            _require_room(place)
        staged = Path(tempfile.mkdtemp(prefix=".trainwatt-", dir=directory))
        for number, text in enumerate(texts.values()):
            (staged / str(number)).write_bytes(text)
        for number, path in enumerate(texts):
            (staged / str(number)).replace(directory / path)
    except BaseException:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        for folder in sorted(set(made), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    staged.rmdir()


def _require_room(folder: Path) -> None:
    """Raises PermissionError now, rather than when half of the files have their places."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _tell(directory: Path, texts: Mapping[str, bytes], *, changed: int, gone: list[str]) -> None:
    boards = sum(path.startswith("json/") for path in texts)
    rules = directory.absolute() / "rules" / "trainwatt.rules.yml"
    click.echo(
        f"{directory}: {len(texts)} files, {changed} of them written anew\n"
        f"  json/          {boards} boards for Grafana\n"
        "  provisioning/  their folder, and a data source: set its url\n"
        "  rules/         recording rules and alerts for Prometheus\n"
        "  kubernetes/    boards as ConfigMaps, PrometheusRule, PodMonitor\n"
        "next\n"
        f"  in prometheus.yml:  rule_files: [{rules}]\n"
        "                      scrape_configs: [{job_name: trainwatt, static_configs: [{targets: ['NODE:9595']}]}]\n"
        "  for Grafana:        import json/*.json by hand; or copy provisioning/ into /etc/grafana/provisioning\n"
        "                      and json/ to /var/lib/grafana/dashboards/trainwatt\n"
        f"  with Kubernetes:    kubectl apply --server-side -f {directory / 'kubernetes'}"
    )
    for path in gone:
        if (directory / path).exists():
            click.echo(f"{directory / path} is no longer part of trainwatt: remove it")
