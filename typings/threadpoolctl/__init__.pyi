"""What we use of threadpoolctl, which ships no types."""

from contextlib import AbstractContextManager
from typing import TypedDict

class LibController:
    filepath: str
    def set_num_threads(self, num_threads: int, /) -> None: ...

class ThreadpoolController:
    lib_controllers: list[LibController]
    def __init__(self) -> None: ...

class _Info(TypedDict):
    filepath: str
    num_threads: int

def threadpool_info() -> list[_Info]: ...
def threadpool_limits(limits: int) -> AbstractContextManager[None]: ...
