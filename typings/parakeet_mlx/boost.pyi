from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

S = TypeVar("S", bound=Hashable)
A = TypeVar("A")
B = TypeVar("B")

class Machine(Generic[S, A]):
    start: S
    step: Callable[[S, A], tuple[S, float]]
    potential: Callable[[S], float]
    at_end: Callable[[S], float]

_WordsState = tuple[frozenset[int], bool]

def advance(machine: Machine[S, A], state: S, symbol: A) -> tuple[S, float]: ...
def settle(machine: Machine[S, A], state: S) -> float: ...
def prebind(f: Callable[[B], Iterable[A]], machine: Machine[S, A]) -> Machine[S, B]: ...
def lift(machine: Machine[S, str], vocabulary: list[str]) -> Machine[S, int]: ...
def words(weights: dict[str, float], *, boundary: bool = True) -> Machine[_WordsState, str]: ...

EMPTY: Machine[Any, Any]
