"""A fast BLAS for MLX on Linux CPUs, found without root.

The ``mlx-cpu`` wheel ships the netlib reference BLAS, about ten times slower than OpenBLAS on the encoder. MLX
calls the ``cblas_*gemm`` that it finds first in the process's global symbol scope, so an OpenBLAS that is there
before ``mlx.core`` is imported wins. The ``scipy-openblas32`` wheel carries a current OpenBLAS for x86-64 and
aarch64, but prefixes its symbols with ``scipy_``: a shared object that consists of nothing but a symbol table
gives them their usual names.
"""

import ctypes
import ctypes.util
import functools
import os
import platform
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..inference.cores import THREADS, usable_cores

_GEMMS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine in the ELF header


@dataclass(frozen=True, slots=True)
class Blas:
    """The matrix library that MLX's CPU device will call; `slow` if it is the reference one."""

    name: str
    slow: bool


@functools.cache
def preload() -> Blas | None:
    """Make MLX use a fast BLAS; ``None`` where MLX brings its own, as on macOS.

    Has an effect only before the first import of ``mlx.core``; MLX loaded earlier keeps what it had. Further calls
    tell again what the first one chose.
    """
    if sys.platform != "linux":
        return None
    if "mlx.core" in sys.modules:
        return Blas("unknown: MLX was imported before the BLAS could be chosen", slow=True)
    return _from_wheel() or _from_system() or Blas("netlib reference", slow=True)


def _from_wheel() -> Blas | None:
    spec = find_spec("scipy_openblas32")
    if spec is None or spec.origin is None or platform.machine() not in _MACHINES:
        return None
    path = Path(spec.origin).parent / "lib" / "libscipy_openblas.so"
    if not path.exists():
        return None
    library = ctypes.CDLL(str(path))
    leave_a_core(library.scipy_openblas_set_num_threads)
    addresses = {name: _address(library, f"scipy_{name}") for name in _GEMMS}
    _publish(_symbol_table(addresses))
    return Blas(_config(library, "scipy_openblas_get_config"), slow=False)


def _from_system() -> Blas | None:
    name = ctypes.util.find_library("openblas")
    if name is None:
        return None
    library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    leave_a_core(library.openblas_set_num_threads)
    return Blas(_config(library, "openblas_get_config"), slow=False)


def leave_a_core(set_threads: Callable[[int], object]) -> None:
    """Let OpenBLAS use all cores but one, unless the environment says how many.

    Its threads wait for each other without rest. Where one of them has to share its core, with the detector, the event
    loop or anything else, all others wait for that one: on two busy cores ten live sessions fell half a minute behind.
    """
    if not any(name in os.environ for name in THREADS):
        set_threads(max(1, usable_cores() - 1))


def _config(library: ctypes.CDLL, function: str) -> str:
    get_config = getattr(library, function)
    get_config.restype = ctypes.c_char_p
    config: bytes = get_config()
    return config.decode()


def _address(library: ctypes.CDLL, symbol: str) -> int:
    address = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
    if address is None:
        raise OSError(f"{symbol} has no address")
    return address


def _publish(image: bytes) -> None:
    """Load a shared object from memory into the global symbol scope."""
    descriptor = os.memfd_create("blas-symbols")
    try:
        os.write(descriptor, image)
        ctypes.CDLL(f"/proc/self/fd/{descriptor}", mode=ctypes.RTLD_GLOBAL)
    finally:
        os.close(descriptor)


def _symbol_table(addresses: dict[str, int]) -> bytes:
    """A 64-bit ELF shared object without code, whose symbols are absolute addresses in this process.

    Source: System V ABI, chapters 4 and 5 (object files, dynamic linking); absolute symbols (``SHN_ABS``) of
    shared objects are taken as they are since glibc 2.28.
    """
    header_size, program_size, symbol_size = 64, 56, 24
    names = b"\0"
    offsets: list[int] = []
    for name in addresses:
        offsets.append(len(names))
        names += name.encode() + b"\0"

    count = len(addresses) + 1
    symbols_at = header_size + 3 * program_size
    hash_at = symbols_at + symbol_size * count
    names_at = hash_at + 4 * (3 + count)
    dynamic_at = (names_at + len(names) + 15) // 16 * 16

    global_function, absolute = (1 << 4) | 2, 0xFFF1
    symbols = bytes(symbol_size) + b"".join(
        struct.pack("<IBBHQQ", offset, global_function, 0, absolute, address, 0)
        for offset, address in zip(offsets, addresses.values(), strict=True)
    )
    # One bucket, whose chain runs through all symbols: there are three.
    chain = [*range(2, count), 0]
    hashes = struct.pack(f"<{3 + count}I", 1, count, 1, 0, *chain)
    tags = {"hash": 4, "strtab": 5, "symtab": 6, "strsz": 10, "syment": 11, "null": 0}
    dynamic = b"".join(
        struct.pack("<QQ", tags[tag], value)
        for tag, value in (
            ("hash", hash_at),
            ("strtab", names_at),
            ("symtab", symbols_at),
            ("strsz", len(names)),
            ("syment", symbol_size),
            ("null", 0),
        )
    )
    size = dynamic_at + len(dynamic)

    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little-endian, version 1
    shared_object, read_write = 3, 6
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        *(shared_object, _MACHINES[platform.machine()], 1, 0, header_size, 0, 0),
        *(header_size, program_size, 3, 0, 0, 0),
    )
    load, dynamic_segment, stack = 1, 2, 0x6474E551
    programs = (
        struct.pack("<IIQQQQQQ", load, read_write, 0, 0, 0, size, size, 0x10000)
        + struct.pack("<IIQQQQQQ", dynamic_segment, read_write, *(dynamic_at,) * 3, *(len(dynamic),) * 2, 8)
        + struct.pack("<IIQQQQQQ", stack, read_write, 0, 0, 0, 0, 0, 16)  # no executable stack
    )
    return (header + programs + symbols + hashes + names).ljust(dynamic_at, b"\0") + dynamic
