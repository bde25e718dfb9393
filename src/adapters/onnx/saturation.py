"""Whether this machine's 8-bit products are exact."""

import numpy as np
from onnxruntime import InferenceSession

from .dense import multiply_rounded
from .graph import Graph
from .providers import CPU

_SIZE = 64


def saturates() -> bool:
    """Whether sums of two 8-bit products are cut off at 16 bits.

    So they are on x86 CPUs without VNNI, when activations use all 8 bits. It is found out by trying: the names of the
    features are found elsewhere on each system.
    """
    graph = Graph(None)
    x = graph.input("x", np.uint8, "rows", _SIZE)
    weight = np.full((_SIZE, _SIZE), 127, np.int8)
    graph.output(multiply_rounded(graph, x, 0, weight, np.ones(_SIZE, np.float32)), "y", np.float32, "rows", _SIZE)
    session = InferenceSession(graph.model("saturation").SerializeToString(), providers=[CPU])
    (product,) = session.run(["y"], {"x": np.full((_SIZE, _SIZE), 255, np.uint8)})
    return bool((product != 255 * 127 * _SIZE).any())
