"""Webhooks signed as Standard Webhooks are: https://www.standardwebhooks.com."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ...application.ports.webhook_sender import WebhookFailedError

_TIMEOUT_S = 15.0


class OutgoingPost(Protocol):
    """Sends requests to the outside, guarded against addresses that are not public."""

    async def check(self, url: str) -> None:
        """Refuse a URL that would never be posted to.

        Raises:
            InvalidRequestError: It is not allowed.
        """
        ...

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> int:
        """The status of the answer; redirects are not followed.

        Raises:
            ConnectionError: There was none, or the address is not allowed; the text says why.
        """
        ...


class SignedWebhooks:
    """`WebhookSender` that signs with each of its secrets, so that receivers may change theirs one after the other."""

    def __init__(
        self, secrets: Sequence[str], outgoing: OutgoingPost, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Sign with `secrets`, each ``whsec_`` and Base64."""
        self._keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
        self._outgoing = outgoing
        self._clock = clock

    async def check(self, url: str) -> None:
        """See the port."""
        await self._outgoing.check(url)

    async def send(self, url: str, *, message_id: str, body: bytes) -> None:
        """See the port."""
        headers = signed_headers(self._keys, message_id=message_id, at=int(self._clock()), body=body)
        try:
            status = await self._outgoing.post(url, headers=headers, body=body, timeout_s=_TIMEOUT_S)
        except (ConnectionError, TimeoutError) as error:
            raise WebhookFailedError(str(error) or "The receiver did not answer in time.") from error
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
