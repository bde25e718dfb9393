"""Who is asking: keys and addresses."""

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable
from itertools import pairwise

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import Scope

from ....application.addresses import caller_at

KEY_SUBPROTOCOLS = ("key.", "openai-insecure-api-key.")
"""A browser cannot set headers on a WebSocket: it offers its key as a subprotocol, ours or OpenAI's, before the key."""

KEY_SCHEMES = ("bearer", "token")
"""Schemes of the header ``Authorization``, the second of them Deepgram's; as subprotocols they stand before the key."""


class KeyRing:
    """The keys that open the door, and whose they are."""

    def __init__(self, keys: Iterable[tuple[str, SecretStr]]) -> None:
        """Know `keys` by their names; without any, the door is open."""
        self._keys = [(name, _digest(key.get_secret_value().encode())) for name, key in keys]

    @property
    def is_empty(self) -> bool:
        """Whether nobody needs a key."""
        return not self._keys

    def name_of(self, scope: Scope) -> str | None:
        """The name of the key that the request carries; ``None`` if it carries none that is known."""
        # Starlette reads headers as latin-1; clients write what is not ASCII in UTF-8.
        offered = [_digest(key.encode("latin-1", "backslashreplace")) for key in offered_keys(scope)]
        # Every pair is compared, each in constant time and at one length: how long it takes tells nothing of a key.
        matches = [name for one in offered for name, known in self._keys if secrets.compare_digest(one, known)]
        return matches[0] if matches else None


def caller_of(scope: Scope) -> str:
    """The caller by its address, for one who shows no key."""
    client: tuple[str, int] | None = scope.get("client")
    return caller_at(None if client is None else client[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that binds `host`; a name other than localhost may mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def offered_keys(scope: Scope) -> list[str]:
    """What the request offers as its key, known or not."""
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    keys = [key.strip()] if scheme.lower() in KEY_SCHEMES else []
    offered: list[str] = scope.get("subprotocols", [])
    for name in offered:
        keys += [name.removeprefix(prefix) for prefix in KEY_SUBPROTOCOLS if name.startswith(prefix)]
    keys += [key for scheme, key in pairwise(offered) if scheme.lower() in KEY_SCHEMES]
    return keys
