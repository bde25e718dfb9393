import pytest

from parakeet_service.adapters.web.client import GuardedWebClient, WebLimits
from parakeet_service.adapters.web.outgoing_guard import OutgoingGuard
from parakeet_service.domain.errors import UrlNotAllowedError, UrlUnreachableError
from tests.unit.adapters.web.scripted_network import ScriptedNames, ScriptedNetwork

LIMITS = WebLimits(longest_bytes=1000, longest_pause_s=5, least_bytes_per_s=10, longest_s=60)

TRICKS = {
    "loopback": "https://127.0.0.1/",
    "another loopback": "https://127.8.9.10/",
    "decimal": "https://2130706433/",
    "octal": "https://017700000001/",
    "octal parts": "https://0177.0.0.1/",
    "hexadecimal": "https://0x7f000001/",
    "hexadecimal parts": "https://0x7f.0x0.0x0.0x1/",
    "hexadecimal in capitals": "https://0X7F000001/",
    "short": "https://127.1/",
    "three parts": "https://10.0.1/",
    "zero": "https://0/",
    "unspecified": "https://0.0.0.0/",
    "padded": "https://127.000.000.001/",
    "too large a part": "https://1.2.3.256/",
    "a dot at the end": "https://127.0.0.1./",
    "full width digits": "https://\uff11\uff12\uff17.0.0.1/",
    "circled digits": "https://\u2460\u2461\u2466.0.0.1/",
    "ideographic full stops": "https://127\u30020\u30020\u30021/",
    "percent encoded": "https://%31%32%37.0.0.1/",
    "private 10": "https://10.1.2.3/",
    "private 172": "https://172.20.0.1/",
    "private 192": "https://192.168.0.1/",
    "carrier grade": "https://100.64.0.1/",
    "metadata": "https://169.254.169.254/latest/meta-data/",
    "metadata, decimal": "https://2852039166/",
    "multicast": "https://224.0.0.1/",
    "broadcast": "https://255.255.255.255/",
    "reserved": "https://240.0.0.1/",
    "documentation": "https://203.0.113.1/",
    "IPv6 loopback": "https://[::1]/",
    "IPv6 unspecified": "https://[::]/",
    "mapped": "https://[::ffff:127.0.0.1]/",
    "mapped, hexadecimal": "https://[::ffff:7f00:1]/",
    "compatible": "https://[::127.0.0.1]/",
    "NAT64": "https://[64:ff9b::127.0.0.1]/",
    "local NAT64": "https://[64:ff9b:1::a9fe:a9fe]/",
    "6to4": "https://[2002:7f00:1::]/",
    "Teredo": "https://[2001:0:808:808:0:ffff:80ff:fffe]/",
    "ISATAP": "https://[2606:4700::5efe:127.0.0.1]/",
    "unique local": "https://[fd00:ec2::254]/",
    "link local": "https://[fe80::1]/",
    "zone": "https://[fe80::1%25eth0]/",
    "zone of a public address": "https://[2606:4700::1111%251]/",
    "site local": "https://[fec0::1]/",
    "IPv6 multicast": "https://[ff02::1]/",
    "the name localhost": "https://localhost/",
    "localhost in capitals": "https://LocalHost/",
    "localhost with a dot": "https://localhost./",
    "a public name of loopback": "https://loop.example/",
    "one public and one private address": "https://both.example/",
    "a name of metadata": "https://metadata.example/",
    "a name of a mapped address": "https://mapped.example/",
    "a resolver's link-local answer": "https://linklocal.example/",
    "credentials": "https://user:secret@good.example/",
    "user": "https://user@good.example/",
    "empty user": "https://@good.example/",
    "a host as a user": "https://good.example@127.0.0.1/",
    "backslash": "https://good.example\\@127.0.0.1/",
    "a backslash for a slash": "https:\\\\127.0.0.1/",
    "line break": "https://good.example/\r\nHost: 127.0.0.1",
    "tab in the host": "https://127.0\t.0.1/",
    "NUL": "https://127.0.0.1\0.good.example/",
    "space before": " https://good.example/",
    "no-break space": "https://good.example\u00a0/",
    "plain HTTP": "http://good.example/",
    "file": "file:///etc/passwd",
    "file with a host": "file://localhost/etc/passwd",
    "FTP": "ftp://good.example/a.wav",
    "gopher": "gopher://good.example:70/_x",
    "data": "data:audio/wav;base64,UklGRg==",
    "Unix socket": "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "no scheme": "//good.example/",
    "no host": "https:///etc/passwd",
    "nothing": "",
    "a path": "/etc/passwd",
    "SSH's port": "https://good.example:22/",
    "Redis' port": "https://good.example:6379/",
    "the other scheme's port": "https://good.example:80/",
    "port 0": "https://good.example:0/",
    "no port at all": "https://good.example:65536/",
    "no such port": "https://good.example:port/",
    "a bracket too few": "https://[::1/",
    "a label too long": f"https://{'a' * 64}.example/",
    "a name too long": f"https://{'a.' * 130}example/",
    "an empty label": "https://good..example/",
    "a hyphen first": "https://-good.example/",
    "a URL without end": "https://good.example/" + "a" * 8192,
}

NAMES = {
    "good_example": [["93.184.216.34"]],
    "localhost": [["::1", "127.0.0.1"]],
    "localhost_": [["127.0.0.1"]],
    "loop_example": [["127.0.0.1"]],
    "both_example": [["93.184.216.34", "192.168.0.1"]],
    "metadata_example": [["169.254.169.254"]],
    "mapped_example": [["::ffff:10.0.0.1"]],
    "linklocal_example": [["fe80::1%2"]],
    "nas_lan": [["192.168.0.9"]],
    "a_b_lan": [["10.0.0.7"]],
}


def names() -> ScriptedNames:
    return ScriptedNames(**NAMES)


def guard(*, allow_http: bool = False, allowed: tuple[str, ...] = ()) -> OutgoingGuard:
    return OutgoingGuard(allow_http=allow_http, allowed_hosts=allowed, resolve=names())


async def hosts(guarded: OutgoingGuard, url: str) -> list[str]:
    return await guarded.addresses(guarded.check(url).raw_host.decode())


@pytest.mark.parametrize("url", TRICKS.values(), ids=TRICKS.keys())
async def test_none_of_the_tricks_connects(url: str) -> None:
    network = ScriptedNetwork()
    client = GuardedWebClient(guard(), LIMITS, network)

    with pytest.raises(UrlNotAllowedError):
        async with client.fetch(url):
            pass
    with pytest.raises(UrlNotAllowedError):
        await client.post(url, b"", {})

    assert network.connected == []


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example",
        "https://good.example:443/a.wav?signature=%2F+x&y#t=1",
        "https://GOOD.example/a file.wav",
        "https://good.example/\u00e4.wav",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]/",
    ],
)
async def test_the_public_internet_is_allowed(url: str) -> None:
    assert await hosts(guard(), url) in (["93.184.216.34"], ["2606:4700::1111"])


async def test_http_is_allowed_by_setting_and_at_its_own_port() -> None:
    assert await hosts(guard(allow_http=True), "http://good.example:80/") == ["93.184.216.34"]
    with pytest.raises(UrlNotAllowedError, match="port 443"):
        guard(allow_http=True).check("http://good.example:443/")


@pytest.mark.parametrize(
    ("allowed", "url", "address"),
    [
        ("nas.lan", "https://nas.lan:9000/a.wav", "192.168.0.9"),
        ("nas.lan", "https://NAS.lan/a.wav", "192.168.0.9"),
        ("*.lan", "https://a.b.lan/", "10.0.0.7"),
        ("*.b.lan", "https://a.b.lan/", "10.0.0.7"),
        ("127.0.0.1", "https://127.0.0.1:8000/", "127.0.0.1"),
        ("::1", "https://[::1]:8000/", "::1"),
    ],
)
async def test_allowed_hosts_may_be_private_and_have_any_port(allowed: str, url: str, address: str) -> None:
    assert await hosts(guard(allowed=(allowed,)), url) == [address]


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("lan", "https://nas.lan/"),
        ("*.nas.lan", "https://nas.lan/"),
        ("*.lan", "https://notlan/"),
        ("good.example", "https://nas.lan/"),
        ("10.0.0.7", "https://a.b.lan/"),
        ("metadata.example", "https://metadata.example/"),
        ("169.254.169.254", "https://169.254.169.254/"),
        ("127.0.0.1", "https://2130706433/"),
    ],
)
async def test_allowed_hosts_allow_no_others_and_no_metadata(allowed: str, url: str) -> None:
    with pytest.raises((UrlNotAllowedError, UrlUnreachableError)):
        await hosts(guard(allowed=(allowed,)), url)


async def test_a_name_without_addresses_is_unreachable() -> None:
    with pytest.raises(UrlUnreachableError, match=r"missing\.example cannot be resolved"):
        await hosts(guard(), "https://missing.example/")
    with pytest.raises(UrlUnreachableError):
        await OutgoingGuard(allow_http=False, allowed_hosts=(), resolve=ScriptedNames(a=[[]])).addresses("a")
