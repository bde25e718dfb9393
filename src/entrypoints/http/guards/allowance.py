"""What one caller may still send in a live session."""

import math

from starlette.requests import HTTPConnection
from starlette.types import Scope

from ....application.ports.quota import Quota


class Allowance:
    """What one caller may still send in a live session; it is charged while the audio comes."""

    def __init__(self, quota: Quota, caller: str) -> None:
        """Begin a session of `caller`."""
        self._quota = quota
        self._caller = caller
        self._spent_s = 0.0
        self._charged_s = 0

    async def spend(self, audio_s: float) -> None:
        """Count more audio; seconds are charged as they begin.

        Raises:
            RateLimitError: The caller has gone beyond its limit.
        """
        self._spent_s += audio_s
        # Many small pieces must not add up to more than they are.
        due_s = math.ceil(round(self._spent_s, 6)) - self._charged_s
        self._charged_s += due_s
        await self._quota.charge(self._caller, due_s)


_ALLOWANCE = "allowance"


def grant(scope: Scope, allowance: Allowance) -> None:
    """Leave it with the session of `scope`."""
    scope["state"][_ALLOWANCE] = allowance


def allowance_of(connection: HTTPConnection) -> Allowance:
    """What the session's caller may still send."""
    allowance: Allowance = connection.scope["state"][_ALLOWANCE]
    return allowance
