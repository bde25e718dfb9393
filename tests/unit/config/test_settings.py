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


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"rate_limit": "60/minute"}, "needs RATE_LIMIT_STORAGE"),
        ({"audio_rate_limit": "60/minute", "rate_limit_storage": "memory://"}, "needs RATE_LIMIT_STORAGE"),
        ({"mcp": True}, "MCP=true"),
        ({"http": False, "wyoming_port": 10300}, "HTTP=false"),
    ],
)
def test_refuses_what_several_processes_cannot_share(given: dict[str, object], problem: str) -> None:
    Settings.model_validate(given)
    with pytest.raises(ValidationError, match=f"HTTP_PROCESSES .*{problem}"):
        Settings.model_validate(given | {"http_processes": 2})


def test_several_processes_take_limits_that_are_counted_elsewhere() -> None:
    given = {"rate_limit": "60/minute", "rate_limit_storage": "redis://host:6379/0", "http_processes": 2}
    assert Settings.model_validate(given).http_processes == 2
