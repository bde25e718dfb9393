"""A network of scripted servers, without sockets; time passes in it as the event loop says."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import httpcore2

Script: TypeAlias = Iterable[bytes | float]
"""What a server sends, and how many seconds it waits in between."""


class ScriptedStream(httpcore2.AsyncNetworkStream):
    def __init__(self, script: Script) -> None:
        self._script = iter(script)
        self._left = b""
        self.received = bytearray()
        self.sent_bytes = 0
        self.is_open = True
        self.tls_name: str | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if not self._left:
            try:
                async with asyncio.timeout(timeout):
                    self._left = await self._next()
            except TimeoutError as error:
                raise httpcore2.ReadTimeout from error
        piece, self._left = self._left[:max_bytes], self._left[max_bytes:]
        self.sent_bytes += len(piece)
        return piece

    async def _next(self) -> bytes:
        for step in self._script:
            if isinstance(step, bytes):
                return step
            await asyncio.sleep(step)
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        self.received += buffer

    async def aclose(self) -> None:
        self.is_open = False

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        assert ssl_context.check_hostname
        assert ssl_context.verify_mode is ssl.CERT_REQUIRED
        self.tls_name = server_hostname
        return self

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None


class ScriptedNetwork(httpcore2.AsyncNetworkBackend):
    """Servers by address and port; anything else refuses the connection."""

    def __init__(self, servers: Mapping[tuple[str, int], Script] | None = None) -> None:
        self.servers = dict(servers or {})
        self.streams: list[ScriptedStream] = []
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Any = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        if (host, port) not in self.servers:
            raise httpcore2.ConnectError
        stream = ScriptedStream(self.servers[host, port])
        self.streams.append(stream)
        return stream


class ScriptedNames:
    """A resolver; each answer of a name is used once, the last one again and again."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(ones) for name, ones in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self._answers:
            raise OSError("Name or service not known")
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]
