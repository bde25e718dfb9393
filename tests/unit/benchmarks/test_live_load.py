"""Frames that the speakers of the benchmark send."""

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from benchmarks.live_load import frame


@pytest.mark.parametrize("length", [0, 125, 126, 3200, 65_535, 65_536])
def test_a_server_reads_what_was_meant(length: int) -> None:
    payload = bytes(number % 251 for number in range(length))
    reader = StreamReader()
    reader.feed_data(frame(2, payload))
    with pytest.raises(StopIteration) as end:
        next(Frame.parse(reader.read_exact, mask=True, max_size=None))
    read: Frame = end.value.value
    assert (read.opcode, read.data, read.fin) == (Opcode.BINARY, payload, True)
