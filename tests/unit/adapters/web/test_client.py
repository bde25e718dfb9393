import errno
import gzip
import tempfile
from collections.abc import Iterator
from itertools import repeat

import pytest

from parakeet_service.adapters.web.client import GuardedWebClient, WebLimits
from parakeet_service.adapters.web.outgoing_guard import OutgoingGuard
from parakeet_service.domain.errors import (
    StorageFullError,
    UploadTooLargeError,
    UrlNotAllowedError,
    UrlUnreachableError,
)
from tests.unit.adapters.web.scripted_network import Script, ScriptedNames, ScriptedNetwork

LIMITS = WebLimits(longest_bytes=1 << 20, longest_pause_s=5, least_bytes_per_s=10, longest_s=60, answer_s=8)
GOOD = ("93.184.216.34", 443)
URL = "https://good.example/a.wav?key=secret"


def names() -> ScriptedNames:
    return ScriptedNames(
        good_example=[["93.184.216.34"]], other_example=[["93.184.216.35"]], inside_example=[["10.0.0.1"]]
    )


def client(
    network: ScriptedNetwork,
    *,
    resolve: ScriptedNames | None = None,
    allow_http: bool = False,
    allowed_hosts: tuple[str, ...] = (),
) -> GuardedWebClient:
    guard = OutgoingGuard(allow_http=allow_http, allowed_hosts=allowed_hosts, resolve=resolve or names())
    return GuardedWebClient(guard, LIMITS, network)


def serving(*script: bytes | float) -> ScriptedNetwork:
    return ScriptedNetwork({GOOD: script})


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def endless(start: bytes, piece: bytes, pause_s: float | None = None) -> Iterator[bytes | float]:
    yield start
    for _ in repeat(None):
        if pause_s is not None:
            yield pause_s
        yield piece


async def fetched(opened: GuardedWebClient, url: str = URL) -> bytes:
    async with opened.fetch(url) as pieces:
        return b"".join([piece async for piece in pieces])


def redirect(to: str, status: str = "302 Found") -> bytes:
    return answer(b"", f"location: {to}", status=status)


async def test_fetches_a_recording_from_the_address_that_was_checked() -> None:
    recording = bytes(range(256)) * 2000
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(recording)}\r\n\r\n".encode()
    network = serving(head, *(recording[at : at + 60000] for at in range(0, len(recording), 60000)))
    resolve = names()

    assert await fetched(client(network, resolve=resolve)) == recording

    assert resolve.asked == ["good.example"]
    assert network.connected == [GOOD]
    stream = network.streams[0]
    assert stream.tls_name == "good.example"
    assert not stream.is_open
    lines = bytes(stream.received).decode().split("\r\n")
    assert lines[0] == "GET /a.wav?key=secret HTTP/1.1"
    assert {line.lower() for line in lines[1:] if line} == {
        "host: good.example",
        "user-agent: parakeet-service",
        "accept: */*",
        "accept-encoding: identity",
        "connection: close",
    }


async def test_an_empty_answer_is_an_empty_recording() -> None:
    assert await fetched(client(serving(answer(b"")))) == b""


async def test_tries_the_next_address_when_one_does_not_answer() -> None:
    resolve = ScriptedNames(good_example=[["2606:4700::1", "93.184.216.34"]])
    network = serving(answer(b"abc"))

    assert await fetched(client(network, resolve=resolve)) == b"abc"

    assert network.connected == [("2606:4700::1", 443), GOOD]


async def test_a_name_that_moves_is_checked_at_each_connection() -> None:
    resolve = ScriptedNames(good_example=[["93.184.216.34"], ["127.0.0.1"]])
    network = serving(redirect("https://good.example/b"))

    with pytest.raises(UrlNotAllowedError):
        await fetched(client(network, resolve=resolve))

    assert network.connected == [GOOD]


async def test_no_address_that_answers_is_unreachable() -> None:
    with pytest.raises(UrlUnreachableError, match=r"good\.example did not answer"):
        await fetched(client(ScriptedNetwork()))


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
@pytest.mark.parametrize("to", ["https://other.example/x", "//other.example/x"])
async def test_follows_redirects(status: str, to: str) -> None:
    network = ScriptedNetwork({GOOD: [redirect(to, status)], ("93.184.216.35", 443): [answer(b"there")]})

    assert await fetched(client(network)) == b"there"

    assert [stream.is_open for stream in network.streams] == [False, False]
    assert bytes(network.streams[1].received).startswith(b"GET /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "to",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://2130706433/",
        "//169.254.169.254/latest",
        "https://inside.example/",
        "http://good.example/",
        "https://good.example:22/",
        "file:///etc/passwd",
        "https://a:b@good.example/",
        "https://[::1/",
        "https:\\\\127.0.0.1\\",
        "/" + "a" * 9000,
    ],
)
async def test_a_redirect_may_lead_nowhere_that_the_url_may_not(to: str) -> None:
    network = serving(redirect(to))

    with pytest.raises(UrlNotAllowedError):
        await fetched(client(network))

    assert network.connected == [GOOD]


async def test_redirects_end() -> None:
    network = serving(redirect("/again"))

    with pytest.raises(UrlUnreachableError, match="redirects more than 5 times"):
        await fetched(client(network))

    assert len(network.connected) == 6


async def test_a_redirect_to_nowhere_is_one_to_itself() -> None:
    with pytest.raises(UrlUnreachableError, match="redirects"):
        await fetched(client(serving(answer(b"", status="302 Found"))))


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "304 X", "403 Forbidden", "500 Oh"])
async def test_other_answers_are_no_recordings(status: str) -> None:
    with pytest.raises(UrlUnreachableError, match=f"status {status[:3]}") as refused:
        await fetched(client(serving(answer(b"", status=status))))

    assert "secret" not in refused.value.message


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "zstd", "identity, gzip"])
async def test_decodes_nothing(encoding: str) -> None:
    bomb = gzip.compress(bytes(1 << 20))

    with pytest.raises(UrlUnreachableError, match="content encoding"):
        await fetched(client(serving(answer(bomb, f"content-encoding: {encoding}"))))


async def test_more_bytes_than_an_upload_may_have_are_refused_before_they_come() -> None:
    network = serving(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", b"abc")

    with pytest.raises(UploadTooLargeError):
        await fetched(client(network))

    assert network.streams[0].sent_bytes < 100


@pytest.mark.parametrize(
    "script",
    [
        endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(60000)),
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"ea60\r\n" + bytes(60000) + b"\r\n"),
    ],
)
async def test_a_body_without_end_is_cut_at_the_limit(script: Script) -> None:
    network = ScriptedNetwork({GOOD: script})

    with pytest.raises(UploadTooLargeError):
        await fetched(client(network))

    assert network.streams[0].sent_bytes < LIMITS.longest_bytes + 200_000


@pytest.mark.leaping_clock
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ((100.0,), "did not answer"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", 1.0), "did not answer within 8 s"),
        (endless(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 1.0), "did not answer within 8 s"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 50000 + b"\r\n"), "did not answer"),
        ((b"220 smtp.example ESMTP\r\n",), "did not answer"),
        ((answer(b"abc")[:-2], 100.0), "stopped sending"),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 1.0), "less than 10 bytes per second"),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 20, 1.0), "took longer than 60 s"),
        ((answer(b"abc")[:-2],), "broke off"),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",), "broke off"),
        ((b"",), "did not answer"),
    ],
)
async def test_slow_or_broken_answers_end(script: Script, says: str) -> None:
    network = ScriptedNetwork({GOOD: script})

    with pytest.raises(UrlUnreachableError, match=says):
        await fetched(client(network))

    assert not network.streams[0].is_open


async def test_a_slow_reader_holds_no_connection_open() -> None:
    network = serving(answer(bytes(400_000)))
    opened = client(network)

    async with opened.fetch(URL) as pieces:
        assert not network.streams[0].is_open
        assert [len(piece) async for piece in pieces] == [1 << 18, 400_000 - (1 << 18)]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    network = serving(answer(b"abc"))

    assert await fetched(client(network)) == b"abc"

    assert network.connected == [GOOD]


class _FullFile:
    """A temporary file on a disk without space."""

    def __enter__(self) -> "_FullFile":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, _: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", _FullFile)

    with pytest.raises(StorageFullError):
        await fetched(client(serving(answer(b"abc"))))


async def test_posts_a_body_with_its_headers_and_gives_the_status() -> None:
    network = serving(answer(b"thanks", status="202 Accepted"))

    status = await client(network).post(URL, b'{"a":1}', {"content-type": "application/json", "webhook-id": "m1"})

    assert status == 202
    head, _, body = bytes(network.streams[0].received).partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a.wav?key=secret HTTP/1.1"
    assert {"content-length: 7", "content-type: application/json", "webhook-id: m1"} <= {one.lower() for one in lines}
    assert not network.streams[0].is_open


async def test_a_post_follows_no_redirect_and_reads_no_body() -> None:
    network = ScriptedNetwork({GOOD: endless(redirect("https://127.0.0.1/"), b"x" * 1000)})

    assert await client(network).post(URL, b"", {}) == 302

    assert network.connected == [GOOD]
    assert network.streams[0].sent_bytes < 5000


@pytest.mark.leaping_clock
async def test_a_post_without_an_answer_is_unreachable() -> None:
    with pytest.raises(UrlUnreachableError, match="did not answer"):
        await client(serving(100.0)).post(URL, b"", {})


async def test_allowed_hosts_may_use_http_and_a_port_of_their_own() -> None:
    network = ScriptedNetwork({("10.0.0.1", 9000): [answer(b"stored")]})
    opened = client(network, allow_http=True, allowed_hosts=("inside.example",))

    assert await fetched(opened, "http://inside.example:9000/x") == b"stored"

    assert b"Host: inside.example:9000" in bytes(network.streams[0].received).replace(b"host:", b"Host:")
    assert network.streams[0].tls_name is None
