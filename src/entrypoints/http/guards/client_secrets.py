"""Short-lived keys that a web page may have: good for a realtime session, in the name of the key that made them."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from starlette.types import Scope

from .keys import offered_keys
from .websocket_gateway import JsonObject

REALTIME = "/v1/realtime"
"""Where they open the door, and nowhere else."""

_PREFIX = "ek_"


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What a secret says.

    Attributes:
        owner: Name of the key that made it; ``None`` where there are no keys.
        session: How the sessions are set up that it opens.
        expires_at: Until when it opens new ones, Unix time in seconds; those that are open go on.
    """

    owner: str | None
    session: JsonObject
    expires_at: int


class ClientSecrets:
    """Makes secrets and reads them again.

    They are kept nowhere: each carries what it says, signed with a key that this process drew by lot, and so dies with
    it. A signature by the API key itself would survive, but let whoever holds a secret try out keys at home.
    """

    def __init__(self) -> None:
        """Draw the key."""
        self._key = secrets.token_bytes(32)

    def make(self, secret: ClientSecret) -> str:
        """The secret as a client presents it: ``ek_...``, of characters that a subprotocol may have."""
        content = json.dumps([secret.owner, secret.session, secret.expires_at], separators=(",", ":")).encode()
        return f"{_PREFIX}{_text(content)}.{_text(self._signature(content))}"

    def find(self, scope: Scope) -> ClientSecret | None:
        """The secret that a request for a realtime session carries, if it is ours and has not expired."""
        if scope["type"] != "websocket" or scope["path"] != REALTIME:
            return None
        return next((secret for key in offered_keys(scope) if (secret := self._read(key)) is not None), None)

    def owner_of(self, scope: Scope) -> str | None:
        """In whose name the secret speaks that the request carries."""
        secret = self.find(scope)
        return None if secret is None else secret.owner

    def _read(self, key: str) -> ClientSecret | None:
        if not key.startswith(_PREFIX):
            return None
        content, _, signature = key.removeprefix(_PREFIX).partition(".")
        try:
            known = _bytes(content)
            genuine = hmac.compare_digest(self._signature(known), _bytes(signature))
        except ValueError:
            return None
        if not genuine:
            return None
        secret = ClientSecret(*json.loads(known))
        return secret if time.time() < secret.expires_at else None

    def _signature(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
