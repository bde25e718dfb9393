"""Webhooks signed as Standard Webhooks are: https://www.standardwebhooks.com."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

from ...application.ports.web_client import WebClient
from ...application.ports.webhook_sender import WebhookFailedError
from ...domain.errors import UrlNotAllowedError, UrlUnreachableError


class SignedWebhooks:
    """`WebhookSender` that signs with each of its secrets, so that receivers may change theirs one after the other."""

    def __init__(self, secrets: Sequence[str], web: WebClient, *, clock: Callable[[], float] = time.time) -> None:
        """Sign with `secrets`, each ``whsec_`` and Base64."""
        self._keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
        self._web = web
        self._clock = clock

    async def send(self, url: str, *, message_id: str, body: bytes) -> None:
        """See the port."""
        headers = signed_headers(self._keys, message_id=message_id, at=int(self._clock()), body=body)
        try:
            status = await self._web.post(url, body, headers)
        except (UrlNotAllowedError, UrlUnreachableError) as error:
            raise WebhookFailedError(error.message) from error
        if not 200 <= status < 300:
            raise WebhookFailedError(f"The receiver answered {status}.")


def signed_headers(keys: Sequence[bytes], *, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a message that is sent `at` that Unix time: a signature for each key, the first one first."""
    signed = b".".join((message_id.encode(), str(at).encode(), body))
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
