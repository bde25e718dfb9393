"""Time that passes at once, for tests of time limits."""

import asyncio
import selectors


class _LeapingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.leapt_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout:
            self.leapt_s += timeout
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock leaps to the next timer where it would sleep; else it stands still."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.leapt_s
