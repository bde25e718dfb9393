"""Live text as a person sees it."""

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .live_client import Message


class Screen:
    """On a terminal one paragraph that is rewritten, its draft dimmed, until it stays; elsewhere lines."""

    def __init__(self, *, console: Console | None = None, lines_for_partials: bool = False) -> None:
        """Prepare; on a terminal, enter it to see more than finals.

        Args:
            console: Where to, by default standard output.
            lines_for_partials: Where there is no terminal, print a line for each partial, too, its draft in brackets.
        """
        self._lines_for_partials = lines_for_partials
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, message: Message, *, words: bool = False) -> None:
        """Show what a message of the service adds; with `words`, an utterance as its words with their times."""
        match message["type"]:
            case "partial":
                self._partial(message["text"], message["draft"])
            case "final" if words:
                self.print(*(f"{word['start']:.2f}\t{word['end']:.2f}\t{word['text']}" for word in message["words"]))
            case "final" if message["text"]:
                self.print(message["text"])
            case _:
                pass

    def print(self, *lines: str) -> None:
        """Leave lines on the screen, in place of the utterance that was being rewritten."""
        if self._console.is_terminal:
            self._live.update(Text(), refresh=True)
            for line in lines:
                self._console.print(Text(line))
        else:
            for line in lines:
                print(line, flush=True)

    def _partial(self, text: str, draft: str) -> None:
        stable = text.removesuffix(draft)
        if self._console.is_terminal:
            self._live.update(Text.assemble(stable, (draft, "dim")), refresh=True)
        elif self._lines_for_partials:
            print(f"  {stable}[{draft}]" if draft else f"  {text}", flush=True)
