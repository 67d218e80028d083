"""Roles on a document, from least to most: each may do all that those before it may."""

from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    PARTICIPANT = "participant"
    EDITOR = "editor"
    MODERATOR = "moderator"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        return _RANK[self]

    def covers(self, other: "Role") -> bool:
        """Whether this role may do whatever ``other`` may."""
        return self.rank >= other.rank

    @property
    def may_write(self) -> bool:
        """Whether updates from this role are accepted (rules inside the document may narrow it)."""
        return self is not Role.VIEWER


_RANK = {role: rank for rank, role in enumerate(Role)}
