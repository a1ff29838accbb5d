"""A run as somebody asks for it, and what its names do to a run that is there already. No I/O."""

from dataclasses import dataclass, replace

from monitor.core.model import Instant, Run
from monitor.runs.holdings import Hints
from monitor.runs.identity import LONGEST_NAME, LONGEST_PROJECT, clean, clean_tags

PROJECT_TAG = "project"
"""Stands for the project where none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A run that somebody wants to start or to join, in the words of the request."""

    id: str
    name: str = ""
    project: str = ""
    launcher: str = ""
    job_id: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    hints: Hints = ()
    key: str = ""
    """Whose processes are its: that of Found; "" = only those that are named."""
    raw_job_id: str = ""
    """The scheduler's own number of the job that it is in, also of one task of an array; "" = none is known."""
    is_named: bool = True
    """Whether somebody gave the id; else it was made of what is known."""

    def as_run(self) -> tuple[Run, int]:
        """The run as it is asked for, with names that are fit to be shown ("" = not given), and how many were not."""
        name, name_altered = clean(self.name, LONGEST_NAME)
        project, project_altered = clean(self.project or dict(self.tags).get(PROJECT_TAG, ""), LONGEST_PROJECT)
        launcher, launcher_altered = clean(self.launcher, LONGEST_NAME)
        job_id, job_altered = clean(self.job_id, LONGEST_NAME)
        tags, tags_altered = clean_tags(dict(self.tags))
        altered = name_altered + project_altered + launcher_altered + job_altered + tags_altered
        unset = Instant(0.0, 0.0)
        run = Run(id=self.id, name=name, start=unset, project=project, launcher=launcher, job_id=job_id, tags=tags)
        return run, altered


def completed(run: Run, wanted: Run) -> Run:
    """A live run with the names that it lacked: of its processes the first to say has the say."""
    return replace(
        run,
        name=wanted.name if wanted.name and run.name == run.id else run.name,
        project=run.project or wanted.project,
        launcher=run.launcher or wanted.launcher,
        job_id=run.job_id or wanted.job_id,
        tags=run.tags or wanted.tags,
    )


def renamed(run: Run, wanted: Run) -> Run:
    """A run that goes on, with the names that it was given anew."""
    return replace(
        run,
        name=wanted.name or run.name,
        project=wanted.project or run.project,
        launcher=wanted.launcher or run.launcher,
        job_id=wanted.job_id or run.job_id,
        tags=wanted.tags or run.tags,
        user=wanted.user,
    )
