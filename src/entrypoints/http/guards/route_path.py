"""A request's path as the routes know it, whatever prefix the service is reached under."""

from starlette._utils import get_route_path
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path without the prefix that ``root_path`` tells; ``/`` where nothing is left."""
    return get_route_path(scope) or "/"
