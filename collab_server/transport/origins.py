"""Which web pages may talk to us."""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class OriginRules:
    """An exact list, plus this server's own pages. No patterns, suffixes or wildcards: those get tricked."""

    allowed: frozenset[str]

    @classmethod
    def of(cls, allowed_origins: Collection[str], public_url: str) -> "OriginRules":
        own = urlsplit(public_url)
        return cls(frozenset({*allowed_origins, f"{own.scheme}://{own.netloc}"}))

    def allows(self, origin: str, host: str | None) -> bool:
        """``origin`` is the Origin header, ``host`` the Host header. A page of ours may be open under
        another name than ``public_url`` (localhost, an address in the LAN): then both name the same host.
        """
        if origin in self.allowed:
            return True
        return host is not None and origin in (f"http://{host.lower()}", f"https://{host.lower()}")
