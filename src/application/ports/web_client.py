"""The port through which the service opens URLs that callers gave it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class WebClient(Protocol):
    """Fetches and posts for callers who are not trusted with the service's own network.

    Only public addresses are connected to, whatever name, redirect or notation leads to others; see the adapter. May be
    used concurrently. Messages of errors name the host of the caller's URL only, since the rest may be a secret.
    """

    def check(self, url: str) -> None:
        """Look at `url` without asking the network: what passes may still be refused once its host is resolved.

        Raises:
            UrlNotAllowedError: It is malformed, or has a scheme, port, host or credentials that are refused.
        """
        ...

    def fetch(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Download a recording to a temporary file, and give its bytes in order, in pieces of at most 256 KiB.

        It is complete when the context is entered: a slow reader keeps no connection open. It may be empty. Leaving the
        context, also by cancellation, removes the file.

        Raises:
            UrlNotAllowedError: As for `check`, also for a redirect, or the host has an address that is not public.
            UrlUnreachableError: The host does not resolve, does not answer, answers with another status than 200 or
                with an encoding such as gzip, redirects too often, is too slow, or breaks off.
            UploadTooLargeError: The recording has more bytes than an upload may have.
            StorageFullError: The disk of the service is full.
        """
        ...

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post `body` and give the status of the answer; a redirect is an answer like others and not followed.

        Args:
            url: Where to.
            body: All of it; the answer's is not read.
            headers: Further headers, such as ``content-type``; ``host`` and ``content-length`` are ours.

        Raises:
            UrlNotAllowedError: As for `fetch`.
            UrlUnreachableError: The host does not resolve, or does not answer in time.
        """
        ...
