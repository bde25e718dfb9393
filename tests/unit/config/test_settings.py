import pytest
from pydantic import ValidationError

from parakeet_service.config.settings import Settings


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("", ()),
        ("NAS.lan., *.Minio.lan", ("nas.lan", "*.minio.lan")),
        ("192.168.1.20,[FD00::1],fd00:0::2", ("192.168.1.20", "fd00::1", "fd00::2")),
    ],
)
def test_allowed_hosts_of_urls_are_names_or_addresses(given: str, hosts: tuple[str, ...]) -> None:
    assert Settings.model_validate({"url_allowed_hosts": given}).url_allowed_hosts == hosts


@pytest.mark.parametrize("given", ["*", "https://nas.lan", "nas.lan:9000", "nas.lan/a", "10.0.0.0/8", "a b"])
def test_refuses_what_is_no_host(given: str) -> None:
    with pytest.raises(ValidationError, match="without scheme, port or path"):
        Settings.model_validate({"url_allowed_hosts": (given,)})
