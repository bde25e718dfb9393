from ipaddress import ip_address

import pytest

from parakeet_service.domain.internet_addresses import is_public, is_usable_inside, parsed_address

PUBLIC = [
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2001:0:808:808:0:ffff:f7f7:f7f7",
]
LINK_LOCAL_AND_NO_SINGLE_HOST = [
    "0.0.0.0",  # noqa: S104 - refused
    "0.1.2.3",
    "169.254.169.254",
    "192.0.0.192",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:808:808:0:ffff:80ff:fffe",
    "2001:0:7f00:1:0:ffff:f7f7:f7f7",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a00:1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "2001:db8::1",
    "2001:2::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "fec0::1",
    "4000::1",
]
INSIDE = [
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_knows_the_public_internet_also_when_it_is_wrapped(address: str) -> None:
    assert is_public(ip_address(address))
    assert is_usable_inside(ip_address(address))


@pytest.mark.parametrize("address", INSIDE)
def test_private_addresses_are_for_trusted_hosts_only(address: str) -> None:
    assert not is_public(ip_address(address))
    assert is_usable_inside(ip_address(address))


@pytest.mark.parametrize("address", LINK_LOCAL_AND_NO_SINGLE_HOST)
def test_link_local_addresses_and_wrapped_private_ones_are_for_nobody(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not is_usable_inside(ip_address(address))


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "0x7f.example", "a1", "localhost", "x0x1"])
def test_a_name_is_no_address(host: str) -> None:
    assert parsed_address(host) is None


@pytest.mark.parametrize("host", ["192.0.2.1", "2606:4700::1111"])
def test_reads_addresses_in_their_usual_form(host: str) -> None:
    assert parsed_address(host) == ip_address(host)


@pytest.mark.parametrize(
    "host", ["2130706433", "017700000001", "0x7f000001", "127.1", "0177.0.0.1", "1.2.3.4.", "foo.0x", "a.1", "1:2"]
)
def test_refuses_what_only_some_read_as_an_address(host: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        parsed_address(host)
