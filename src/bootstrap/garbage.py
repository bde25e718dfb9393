"""How often Python looks for objects that refer to each other in circles."""

import gc

_NEW_OBJECTS = 10_000
"""Containers made and not freed between two looks; Python's 700 are reached many times a second with live sessions."""


def collect_seldom() -> None:
    """Look seldom, and never again at what is there now: modules, routes, the model.

    With 200 live sessions the collector took a sixth of the event loop's time, and found next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
