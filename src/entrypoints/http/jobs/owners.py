"""Whose the jobs of a request are."""

import hashlib
from collections.abc import Mapping

from starlette.requests import Request

from ..guards.request_context import request_context

_ANYONE = "anyone"
"""The owner of all jobs where there are no keys."""


def owner_of(owners: Mapping[str, str], request: Request) -> str:
    """Whose the jobs are that `request` asks for; `owners` says it by the name of a key."""
    key = request_context(request).key
    return _ANYONE if key is None else owners[key]


def owner_tag(owner: str) -> str:
    """What tells one owner's jobs from another's without saying who it is: 16 hexadecimal digits."""
    return hashlib.sha256(f"jobs of {owner}".encode()).hexdigest()[:16]
