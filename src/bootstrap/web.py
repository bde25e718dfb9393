"""What opens the URLs that callers give."""

from ..adapters.web.client import GuardedWebClient, WebLimits
from ..adapters.web.outgoing_guard import OutgoingGuard
from ..application.ports.web_client import WebClient
from ..config.settings import Settings


def web_client(settings: Settings) -> WebClient:
    """What opens the URLs that callers give."""
    guard = OutgoingGuard(allow_http=settings.url_allow_http, allowed_hosts=settings.url_allowed_hosts)
    limits = WebLimits(
        longest_bytes=settings.max_upload_bytes,
        longest_pause_s=settings.upload_pause,
        least_bytes_per_s=settings.min_upload_rate,
        longest_s=settings.upload_timeout,
    )
    return GuardedWebClient(guard, limits)
