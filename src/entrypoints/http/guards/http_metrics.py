"""The metrics that the routes report."""

from typing import Protocol


class HttpMetrics(Protocol):
    """Hears what came and went over HTTP. Every method returns at once and raises nothing."""

    def request_answered(self, *, method: str, route: str, status: int, took_s: float) -> None:
        """A request was answered; `route` is the template, `unmatched` where there is none."""
        ...

    def session_ended(self, *, route: str, code: int, took_s: float) -> None:
        """A WebSocket was closed with `code`, or refused with that HTTP status."""
        ...

    def uploads_changed(self, *, receiving: int, held: int) -> None:
        """`held` uploads have a place now; `receiving` of them are still being received."""
        ...
