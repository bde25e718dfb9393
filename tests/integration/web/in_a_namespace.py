"""Run in a network namespace whose loopback has public addresses and whose name server is ours: prints what came."""

import asyncio
import json
import sys
from pathlib import Path

from parakeet_service.adapters.web.client import GuardedWebClient, WebLimits
from parakeet_service.adapters.web.outgoing_guard import OutgoingGuard
from parakeet_service.domain.errors import ServiceError
from tests.integration.web.web_servers import NameServer, serving

PUBLIC, ALSO_PUBLIC = "93.184.216.34", "93.184.216.35"
NAMES = {
    "public.test": [PUBLIC],
    "rebinding.test": [PUBLIC, "127.0.0.1"],
    "private.test": ["127.0.0.1"],
    "moving.test": [PUBLIC, "127.0.0.1"],
}


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def main(certificate: Path) -> None:
    recording = bytes(range(256)) * 4000
    answers = {
        "/": answer(recording),
        "/elsewhere": answer(b"", f"location: https://[::ffff:{ALSO_PUBLIC}]/", status="302 Found"),
        "/there": answer(b"", "location: https://public.test/", status="302 Found"),
        "/inside": answer(b"", "location: https://private.test/", status="302 Found"),
        "/again": answer(b"", "location: https://moving.test/", status="307 Temporary Redirect"),
    }
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(lambda: NameServer(NAMES), local_addr=("127.0.0.1", 53))
    limits = WebLimits(longest_bytes=1 << 24, longest_pause_s=30, least_bytes_per_s=1, longest_s=120)
    client = GuardedWebClient(OutgoingGuard(allow_http=False, allowed_hosts=()), limits)
    secret = answer(b"the secret of loopback")
    got: dict[str, object] = {}
    async with (
        serving(answers, host=PUBLIC, port=443, certificate=certificate),
        serving({"/": secret, "/again": secret}, host="127.0.0.1", port=443, certificate=certificate),
    ):
        for url in sys.argv[2:]:
            try:
                async with client.fetch(url) as pieces:
                    body = b"".join([piece async for piece in pieces])
                got[url] = "the recording" if body == recording else body.decode()
            except ServiceError as error:
                got[url] = error.code
    transport.close()
    print(json.dumps({"got": got, "asked": names.asked}))  # noqa: T201


asyncio.run(main(Path(sys.argv[1])))
