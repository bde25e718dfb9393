"""Servers of the tests' own: HTTPS with a certificate, and a name server that changes its mind."""

import asyncio
import ssl
import struct
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import cast


def make_certificate(directory: Path, *names: str) -> Path:
    """A self-signed certificate and its key, in one file: who trusts the file trusts the server."""
    pem, key = directory / "server.pem", directory / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    alternatives = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
    subprocess.run(
        [*command, "-addext", alternatives, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True
    )
    return pem


@asynccontextmanager
async def serving(
    answers: Mapping[str, bytes], *, host: str = "127.0.0.1", port: int = 0, certificate: Path | None = None
) -> AsyncGenerator[int]:
    """Answers each path with the bytes given, headers included; yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answers[head.split(b" ")[1].decode()])
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with await asyncio.start_server(answer, host, port, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


class NameServer(asyncio.DatagramProtocol):
    """Answers with the next address of a name at each question for it, and with the last one ever after."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self._names = {name: list(addresses) for name, addresses in names.items()}
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # On 3.11 the class of the transport does not inherit from what it implements.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        labels: list[str] = []
        at = 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question, kind = data[12 : at + 5], struct.unpack(">H", data[at + 1 : at + 3])[0]
        addresses = self._names.get(".".join(labels).lower())
        records = b""
        if addresses and kind == 1:
            self.asked.append(".".join(labels).lower())
            address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
            # A time to live of 0: whoever asks again gets another answer.
            records = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + ip_address(address).packed
        status = 0x8180 if addresses else 0x8183
        self._transport.sendto(
            data[:2] + struct.pack(">HHHHH", status, 1, bool(records), 0, 0) + question + records, addr
        )
