"""The settings of a cluster, and of several servers."""

import pytest
from pydantic import ValidationError

from parakeet_service.config.settings import Settings


def test_refuses_a_cluster_together_with_isolation() -> None:
    with pytest.raises(ValidationError, match="CLUSTER and ISOLATION exclude each other"):
        Settings(cluster="ray", isolation="process")
    assert Settings(cluster="ray").isolation == "none"


@pytest.mark.parametrize("url", ["", "redis://host:6379/0", "rediss://:secret@host/1"])
def test_takes_storages_of_rate_limits_that_servers_share(url: str) -> None:
    assert Settings.model_validate({"rate_limit_storage": url}).rate_limit_storage.get_secret_value() == url


def test_refuses_other_storages_and_does_not_show_their_password() -> None:
    with pytest.raises(ValidationError, match="write it as redis://"):
        Settings.model_validate({"rate_limit_storage": "mongodb://user:secret@host"})
    shown = Settings.model_validate({"rate_limit_storage": "redis://:secret@host"})
    assert "secret@" not in repr(shown)


def test_refuses_a_signing_key_that_could_be_guessed() -> None:
    with pytest.raises(ValidationError, match="at least 32"):
        Settings.model_validate({"client_secret_key": "short"})
