import asyncio
import sys
from collections.abc import Callable, Generator, Mapping

import pytest

from tests.unit.clock import LeapingLoop

_SLOW = {"socket.connect", "subprocess.Popen"}
_is_unit_test = False


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    # `platform` runs uname, once.
    if _is_unit_test and event in _SLOW and arguments[0] != "uname":
        raise AssertionError(f"{event}: that is for tests/integration")


sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def _nothing_slow() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Unit tests start no process and connect to nobody."""
    global _is_unit_test  # noqa: PLW0603 - the hook stays for as long as Python runs
    _is_unit_test = True
    yield
    _is_unit_test = False


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of each test; that of `leaping_clock` never sleeps."""
    if item.get_closest_marker("leaping_clock"):
        return {"leaping": LeapingLoop}
    return {"real": asyncio.new_event_loop}
