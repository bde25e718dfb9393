"""The guard on real sockets, real TLS and a real resolver."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parakeet_service.adapters.web.client import GuardedWebClient, WebLimits
from parakeet_service.adapters.web.outgoing_guard import OutgoingGuard
from parakeet_service.domain.errors import UrlNotAllowedError, UrlUnreachableError
from tests.integration.web.web_servers import make_certificate, serving

LIMITS = WebLimits(longest_bytes=1 << 24, longest_pause_s=30, least_bytes_per_s=1, longest_s=120)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"


def client(*allowed: str, allow_http: bool = False) -> GuardedWebClient:
    return GuardedWebClient(OutgoingGuard(allow_http=allow_http, allowed_hosts=allowed), LIMITS)


async def fetched(opened: GuardedWebClient, url: str) -> bytes:
    async with opened.fetch(url) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_loopback_is_refused_by_name_and_allowed_by_setting() -> None:
    async with serving({"/a": OK}) as port:
        url = f"http://localhost:{port}/a"
        with pytest.raises(UrlNotAllowedError):
            await fetched(client(allow_http=True), url)
        with pytest.raises(UrlNotAllowedError):
            await fetched(client("localhost"), url)

        assert await fetched(client("localhost", allow_http=True), url) == b"abc"
        assert await client("localhost", allow_http=True).post(url, b"{}", {}) == 200


async def test_certificates_are_checked_against_the_name_and_known_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "localhost")
    async with serving({"/a": OK}, certificate=certificate) as port:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        with pytest.raises(UrlUnreachableError, match="certificate"):
            await fetched(client("localhost"), f"https://localhost:{port}/a")

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert await fetched(client("localhost"), f"https://localhost:{port}/a") == b"abc"
        with pytest.raises(UrlUnreachableError, match="certificate"):
            await fetched(client("127.0.0.1"), f"https://127.0.0.1:{port}/a")


async def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    async with serving({}) as port:
        pass
    with pytest.raises(UrlUnreachableError, match="did not answer"):
        await fetched(client("localhost", allow_http=True), f"http://localhost:{port}/a")


def _namespaces() -> str | None:
    """Why there is no network namespace to be had."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "ip", "mount"))):
        return "needs unshare and ip, of Linux"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True)
    return None if tried.returncode == 0 else "needs root, for a network namespace"


_IN_A_NAMESPACE = """
set -e
mount --bind "$1" /etc/resolv.conf
ip link set lo up
ip addr add 93.184.216.34/32 dev lo
ip addr add 93.184.216.35/32 dev lo
shift
exec "$@"
"""


def in_a_namespace(directory: Path, *urls: str) -> dict[str, dict[str, str]]:
    if reason := _namespaces():
        pytest.skip(reason)
    certificate = make_certificate(
        directory, "public.test", "rebinding.test", "private.test", "moving.test", "good.test"
    )
    resolv = directory / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:2\n")
    program = [sys.executable, "-m", "tests.integration.web.in_a_namespace", str(certificate), *urls]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", _IN_A_NAMESPACE, "sh", str(resolv), *program],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "SSL_CERT_FILE": str(certificate)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, str]] = json.loads(done.stdout)
    return result


def test_a_public_server_works_and_rebinding_does_not(tmp_path: Path) -> None:
    expected = {
        "https://public.test/": "the recording",
        "https://public.test/there": "the recording",
        "https://public.test/inside": "url_not_allowed",
        # Resolved once: the recording comes from the address that was checked, and not from loopback.
        "https://rebinding.test/": "the recording",
        # Resolved again for the redirect, and checked again.
        "https://moving.test/again": "url_not_allowed",
        "https://private.test/": "url_not_allowed",
        "https://unknown.test/": "url_unreachable",
        # No certificate is for an address; it is connected to, and its TLS refused.
        "https://93.184.216.34/": "url_unreachable",
        "https://127.0.0.1/": "url_not_allowed",
    }

    seen = in_a_namespace(tmp_path, *expected)

    assert seen["got"] == expected
    assert list(seen["asked"]).count("rebinding.test") == 1
    assert list(seen["asked"]).count("moving.test") == 2
