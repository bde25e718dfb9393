"""Short-lived keys for web pages: each opens realtime sessions, in the name of the API key that made it."""

import hashlib
import secrets
import time
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer
from starlette.types import Scope

from .keys import offered_keys
from .route_path import route_path
from .websocket_gateway import JsonObject

REALTIME = "/v1/realtime"
"""The only path where they are accepted."""

_PREFIX = "ek_"
_KEY_BYTES = 32


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

    They are stored nowhere: each carries its own content, signed. Processes that have the same signing key accept each
    other's secrets. An API key must not sign them: the holder of a secret could then try out API keys offline.
    """

    def __init__(self, signing_key: bytes | None = None) -> None:
        """Sign with `signing_key`; without one, with a random key, so that secrets die with this process.

        Raises:
            ValueError: The key is so short that it could be guessed.
        """
        if signing_key is None:
            signing_key = secrets.token_bytes(_KEY_BYTES)
        if len(signing_key) < _KEY_BYTES:
            raise ValueError(f"A signing key needs at least {_KEY_BYTES} bytes.")
        self._signed = URLSafeSerializer(
            signing_key,
            salt="realtime client secret",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def make(self, secret: ClientSecret) -> str:
        """The secret as a client presents it: ``ek_...``, in characters that a subprotocol may have."""
        return _PREFIX + self._signed.dumps([secret.owner, secret.session, secret.expires_at])

    def find(self, scope: Scope) -> ClientSecret | None:
        """The secret that a request for a realtime session carries, if it is ours and has not expired."""
        if scope["type"] != "websocket" or route_path(scope) != REALTIME:
            return None
        return next((secret for key in offered_keys(scope) if (secret := self._read(key)) is not None), None)

    def owner_of(self, scope: Scope) -> str | None:
        """In whose name the secret speaks that the request carries."""
        secret = self.find(scope)
        return None if secret is None else secret.owner

    def _read(self, key: str) -> ClientSecret | None:
        if not key.startswith(_PREFIX):
            return None
        try:
            content = self._signed.loads(key.removeprefix(_PREFIX))
        except BadData:
            return None
        secret = ClientSecret(*content)
        return secret if time.time() < secret.expires_at else None
