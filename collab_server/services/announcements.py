"""What the sockets are told after a commit. Services know no sockets; the hub puts itself here."""

from collections.abc import Callable, Collection
from dataclasses import dataclass


def _nobody_listens(_: object) -> None:
    pass


@dataclass(slots=True)
class Announcements:
    """Both are called on the event loop right after the commit; they must return at once and not raise.

    News may get lost with the process: whoever listens also polls ``acl_version``.
    """

    access_changed: Callable[[str], None] = _nobody_listens
    """A grant of this document changed or the document was deleted: recheck everybody in it."""

    sessions_ended: Callable[[Collection[str]], None] = _nobody_listens
    """These sign-in sessions are over: close their sockets with 4401."""
