"""Every error of the project. Each class tells its catcher what to do; each message carries the remedy.

TrainwattError
├── UsageError            wrong flags or configuration: one line, exit 2
├── FailureError          could not do it: one line, exit 1
├── SourceError           for the supervisor of a source
│   ├── SourceAbsent      no such hardware or driver here: look again now and then, quietly
│   ├── SourceDenied      there, but not for us: tell the remedy, look again now and then
│   └── SourceBroken      it worked or should: tell, close, open again with back-off
└── FeedError             for the refresher of the grid's feeds: count, tell, ask again with back-off
"""


class TrainwattError(Exception):
    """Base of all. `str(error)` is one line for people that says what to do."""

    exit_code = 1


class UsageError(TrainwattError):
    """Wrong flags or configuration."""

    exit_code = 2


class FailureError(TrainwattError):
    """The request was right but could not be carried out."""


class SourceError(TrainwattError):
    """A whole source cannot be read. `reason` is a short word of a closed set, fit for a label."""

    reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class SourceAbsent(SourceError):
    """No such hardware or driver on this machine."""

    reason = "absent"


class SourceDenied(SourceError):
    """The sensor is there but may not be read."""

    reason = "denied"


class SourceBroken(SourceError):
    """The sensor answered with an error that concerns all of its devices."""

    reason = "broken"


class FeedError(TrainwattError):
    """A provider of carbon intensity did not give a value. `reason` is a word of REASONS, fit for a label.

    No message contains a secret: keys are sent in headers and queries that are never part of it.
    """

    REASONS = frozenset(
        {
            "network",  # no connection, name or route; a connection that broke
            "timeout",
            "key",  # missing, wrong or expired credentials
            "plan",  # the key is good, but not for this zone or signal
            "zone",  # the provider does not know the zone
            "quota",
            "server",  # 5xx, and other statuses that nobody expects
            "redirect",  # to another host
            "size",
            "content",  # no JSON, or not the document that was asked for
            "empty",  # the right document, and no value in it
            "value",  # a number that cannot be an intensity
            "clock",  # values of a time that does not fit ours
            "other",  # whatever else a third-party feed says: each word would be a series
        }
    )

    def __init__(self, message: str, *, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason if reason in self.REASONS else "other"
        self.retry_after_s = retry_after_s
        """How long the provider asks to be left alone, in seconds; None = it does not say."""
