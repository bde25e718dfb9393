import pytest

from parakeet_service.application.addresses import caller_at


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "address 192.0.2.1"),
        ("::ffff:192.0.2.1", "address 192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::/64"),
        ("testclient", "address testclient"),
        (None, "address unix socket"),
    ],
)
def test_one_subscriber_is_one_caller(host: str | None, name: str) -> None:
    assert caller_at(host) == name
