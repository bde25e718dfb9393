from structlog.testing import capture_logs

from parakeet_service.adapters.inference.progress import Progress, Stage


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_tells_how_far_it_is() -> None:
    progress = Progress()
    assert progress.stage is None

    progress.begin("building", "m", 300)
    progress.add(100)
    progress.add(50)

    assert progress.stage == Stage("building", done_bytes=150, total_bytes=300)
    progress.end()
    assert progress.stage is None


def test_each_stage_begins_at_nothing() -> None:
    progress = Progress()
    progress.begin("downloading", "m", 10)
    progress.add(10)
    progress.end()

    progress.begin("building", "m", None)

    assert progress.stage == Stage("building", done_bytes=0, total_bytes=None)


def test_nothing_counts_outside_a_stage() -> None:
    progress = Progress()
    progress.add(5)
    assert progress.stage is None


def test_logs_the_beginning_and_then_now_and_then() -> None:
    clock = Clock()
    progress = Progress(clock)
    with capture_logs() as logs:
        progress.begin("building", "m", 2_470_000_000)
        for _ in range(12):
            clock.now_s += 1
            progress.add(100_000_000)

    assert [entry["event"] for entry in logs] == ["building the graphs of the model"] * 3
    assert (logs[0]["model"], logs[0]["size"]) == ("m", "about 2.5 GB")
    assert [entry["percent"] for entry in logs[1:]] == [20, 40]


def test_logs_no_share_of_what_has_no_known_size() -> None:
    clock = Clock()
    progress = Progress(clock)
    with capture_logs() as logs:
        progress.begin("downloading", "m", None)
        clock.now_s += 60
        progress.add(5)

    assert logs[0]["size"] == "of unknown size"
    assert (logs[1]["done_bytes"], logs[1]["percent"]) == (5, None)
