"""The WebClient port on httpcore: no redirects, decoding, cookies or proxies but what is written here."""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO
from urllib.parse import urljoin

import httpcore2
import httpx2

from ...domain.errors import UploadTooLargeError, UrlNotAllowedError, UrlUnreachableError, shortage_behind
from .outgoing_guard import GuardedNetwork, OutgoingGuard

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PIECE_BYTES = 1 << 18
_NO_ANSWER = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
)


@dataclass(frozen=True, slots=True)
class WebLimits:
    """How much patience and disk a URL may cost.

    Attributes:
        longest_bytes: Most bytes of a recording.
        longest_pause_s: Longest wait for its next bytes.
        least_bytes_per_s: Slowest average after `longest_pause_s`; 0 allows any.
        longest_s: Longest download, redirects included.
        answer_s: Longest wait for one answer's headers, and for all of a post.
        connect_s: Longest wait for one address to accept.
    """

    longest_bytes: int
    longest_pause_s: float
    least_bytes_per_s: float
    longest_s: float
    answer_s: float = 30.0
    connect_s: float = 10.0


class GuardedWebClient:
    """Opens only what its guard allows, within its limits."""

    def __init__(
        self, guard: OutgoingGuard, limits: WebLimits, network: httpcore2.AsyncNetworkBackend | None = None
    ) -> None:
        """Nothing is opened yet.

        Args:
            guard: Asked about each URL and each address.
            limits: For each URL.
            network: What connects; by default the system's sockets.
        """
        self._guard = guard
        self._limits = limits
        self._network = GuardedNetwork(guard, network or _sockets())

    def check(self, url: str) -> None:
        """See the port."""
        self._guard.check(url)

    @asynccontextmanager
    async def fetch(self, url: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """See the port."""
        with tempfile.TemporaryFile() as file:
            try:
                await self._download(url, file)
            except OSError as error:
                if shortage := shortage_behind(error):
                    raise shortage from error
                raise
            file.seek(0)
            yield _pieces(file)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """See the port."""
        target = self._guard.check(url)
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._answer("POST", target, [*sent, (b"content-length", str(len(body)).encode())], body) as answer:
            return answer.status

    async def _download(self, url: str, file: IO[bytes]) -> None:
        first = self._guard.check(url)
        try:
            async with asyncio.timeout(self._limits.longest_s):
                await self._follow(first, file)
        except TimeoutError as error:
            raise UrlUnreachableError(f"{first.host} took longer than {self._limits.longest_s:g} s.") from error

    async def _follow(self, target: httpx2.URL, file: IO[bytes]) -> None:
        first = target.host
        for _ in range(_MOST_REDIRECTS + 1):
            async with self._answer("GET", target, [(b"accept", b"*/*"), (b"accept-encoding", b"identity")]) as answer:
                if answer.status not in _REDIRECTS:
                    await self._save(answer, target.host, file)
                    return
                target = self._guard.check(_redirected(target, _header(answer, b"location")))
        raise UrlUnreachableError(f"{first} redirects more than {_MOST_REDIRECTS} times.")

    async def _save(self, answer: httpcore2.Response, host: str, file: IO[bytes]) -> None:
        limits = self._limits
        if answer.status != 200:
            raise UrlUnreachableError(f"{host} answered with status {answer.status}.")
        if _header(answer, b"content-encoding").lower() not in ("", "identity"):
            raise UrlUnreachableError(f"{host} answered with a content encoding, although none was asked for.")
        length = _header(answer, b"content-length")
        if length.isdecimal() and int(length) > limits.longest_bytes:
            raise UploadTooLargeError(limit_bytes=limits.longest_bytes)
        clock = asyncio.get_running_loop().time
        began, received = clock(), 0
        block = bytearray()
        async for piece in _body(answer, host):
            received += len(piece)
            if received > limits.longest_bytes:
                raise UploadTooLargeError(limit_bytes=limits.longest_bytes)
            passed = clock() - began
            if passed > limits.longest_pause_s and received < limits.least_bytes_per_s * passed:
                raise UrlUnreachableError(f"{host} sends less than {limits.least_bytes_per_s:g} bytes per second.")
            block += piece
            if len(block) >= _PIECE_BYTES:
                await asyncio.to_thread(file.write, bytes(block))
                block.clear()
        await asyncio.to_thread(file.write, bytes(block))

    @asynccontextmanager
    async def _answer(
        self, method: str, target: httpx2.URL, headers: list[tuple[bytes, bytes]], body: bytes | None = None
    ) -> AsyncGenerator[httpcore2.Response]:
        """The answer's headers are there when this is entered; its connection is closed afterwards."""
        limits = self._limits
        url = httpcore2.URL(
            scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path or b"/"
        )
        timeouts = {
            "connect": limits.connect_s,
            "read": limits.longest_pause_s,
            "write": limits.longest_pause_s,
        }
        ours = [(b"host", target.netloc), (b"user-agent", b"parakeet-service"), (b"connection", b"close")]
        request = httpcore2.Request(
            method, url, headers=[*ours, *headers], content=body, extensions={"timeout": timeouts}
        )
        # A pool for each: a connection is never kept for a name that may have moved.
        async with httpcore2.AsyncConnectionPool(ssl_context=self._tls, network_backend=self._network) as pool:
            try:
                async with asyncio.timeout(limits.answer_s):
                    answer = await pool.handle_async_request(request)
            except TimeoutError as error:
                raise UrlUnreachableError(f"{target.host} did not answer within {limits.answer_s:g} s.") from error
            except _NO_ANSWER as error:
                raise UrlUnreachableError(f"{target.host} did not answer{_reason(error)}.") from error
            try:
                yield answer
            finally:
                await answer.aclose()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Checks certificates against the host's name; `SSL_CERT_FILE` and `SSL_CERT_DIR` name other authorities."""
        return httpx2.create_ssl_context()


def _sockets() -> httpcore2.AsyncNetworkBackend:
    backend: object = httpcore2.AnyIOBackend()
    # httpcore has another class of that name for when anyio is missing; it is there.
    assert isinstance(backend, httpcore2.AsyncNetworkBackend)  # noqa: S101
    return backend


async def _body(answer: httpcore2.Response, host: str) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_stream():
            yield piece
    except httpcore2.TimeoutException as error:
        raise UrlUnreachableError(f"{host} stopped sending.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise UrlUnreachableError(f"{host} broke off.") from error


def _redirected(target: httpx2.URL, location: str) -> str:
    """Where `location` leads, not parsed yet: the guard's reading is the one that counts."""
    try:
        return urljoin(str(target), location)
    except ValueError as error:
        raise UrlNotAllowedError(f"{target.host} redirects to what is no URL.") from error


def _header(answer: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1").strip() for key, value in answer.headers if key.lower() == name), "")


def _reason(error: Exception) -> str:
    """What the caller can mend: certificates. The rest would tell of the service's network."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ": its certificate is not valid for the name, or not signed by a known authority"
        cause = cause.__cause__ or cause.__context__
    return ""


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece
