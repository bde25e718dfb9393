"""`docs/conformance.md`, made by asking the service: ``python -m tests.conformance`` writes it."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import openai
from openai.types.audio import Transcription, TranscriptionVerbose, Translation, TranslationVerbose

from tests.conformance.calls import Callers, Heard, Parameters, callers
from tests.conformance.realtime import SITUATIONS as REALTIME_SITUATIONS
from tests.conformance.realtime import talk
from tests.conformance.serving import make_app, served
from tests.conformance.situations import SITUATIONS, outcome
from tests.fakes import SearchingModel
from tests.scripted_model import ScriptedModel

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"

_HEAD = """# What OpenAI's client gets

Made by `python -m tests.conformance`, which asks a server through the official Python client ({client}); the tests
fail if this page says anything else. Each body is held to the client's own types in strict mode: nothing is converted,
nothing is missing, and there is nothing that they do not know, but for `task` (OpenAI sends it, too), the `seconds` in
a stream's usage and the `aliases` of a model. `tests/conformance/test_formats.py` goes through all 288 combinations of
format, granularity, `include`, `chunking_strategy` and `stream` by the sync, the async and the raw client.
"""
_FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
_OPTIONS: dict[str, Parameters] = {
    "plain": {},
    "`word`": {"timestamp_granularities": ["word"]},
    "`segment`": {"timestamp_granularities": ["segment"]},
    "both": {"timestamp_granularities": ["word", "segment"]},
    "`include[]=logprobs`": {"include": ["logprobs"]},
    "`stream=true`": {"stream": True},
    "`stream`, `logprobs`": {"stream": True, "include": ["logprobs"]},
}
_PARAMETERS: tuple[Parameters, ...] = (
    {"language": "en"},
    {"language": "English"},
    {"language": "en-US"},
    {"languages": ["en", "de"]},
    {"prompt": "A conversation."},
    {"keywords": ["Parakeet", "MLX"]},
    {"temperature": 0.4},
    {"chunking_strategy": "auto"},
    {"chunking_strategy": {"type": "server_vad", "threshold": 0.4}},
    {"known_speaker_names": ["agent"]},
    {"extra_body": {"unknown": "field"}},
)


def document() -> str:
    """The page as it is to be."""
    with ExitStack() as stack:
        one = stack.enter_context(served(make_app(ScriptedModel())))
        several = stack.enter_context(served(make_app(SearchingModel())))
        client = stack.enter_context(callers(one.url))
        searching = stack.enter_context(callers(several.url))
        parts = (
            _HEAD.format(client=f"openai {version('openai')}"),
            "## `/v1/audio/transcriptions`: what comes back\n",
            *_table(("`response_format`", *_OPTIONS), (_format_row(client, name) for name in _FORMATS)),
            "\n`chunking_strategy`, `auto` or `server_vad`, changes none of this: long recordings are cut at pauses always.",
            "\n## `/v1/audio/transcriptions`: what else may be sent\n",
            "The last two columns are `x-ignored-parameters`: what was taken without effect.\n",
            *_table(
                ("Parameter", "Answer", "English model", "model of several languages that can favour phrases"),
                (_parameter_row(client, searching, sent) for sent in _PARAMETERS),
            ),
            "\n## `/v1/audio/translations`, of English\n",
            *_table(
                ("`response_format`", "Answer"),
                ((f"`{name}`", _seen(client, {"response_format": name}, translated=True)) for name in _FORMATS),
            ),
            "\n## What goes wrong\n",
            "Every answer carries the four fields of OpenAI's error, and `x-request-id`. The last column counts the "
            "requests of a client that may retry once.\n",
            *_table(
                ("What", "Status", "Exception", "`code`", "`param`", "`retry-after`", "`x-should-retry`", "Requests"),
                _error_rows(),
            ),
            _REALTIME,
            *_table(("What", "Heard after `session.created`", "`error`", "Close"), _realtime_rows(one.url)),
        )
    return "\n".join(parts) + "\n"


_REALTIME = """
## `/v1/realtime`, `/v1/realtime/client_secrets`

Every event, too, is held to the client's types in strict mode, but for what OpenAI's own server adds to them: `id`,
`object` and `expires_at` of a session. Names are short for `input_audio_buffer.*`, `conversation.*` and
`conversation.item.input_audio_transcription.*`; deltas are left out, which come from the first words to the last, and
add up to the transcript that is completed. Behind an error the session goes on, unless it is closed.
"""


def _realtime_rows(url: str) -> Iterable[list[str]]:
    for situation in REALTIME_SITUATIONS:
        with ExitStack() as stack:
            here = url if situation.serve is None else stack.enter_context(served(situation.serve())).url
            heard = talk(here, situation.steps, beta=situation.beta, model=situation.model)
        kinds = [_short(event["type"]) for event in heard.heard]
        kinds = [kind for kind in kinds if kind not in {"session.created", "error", "delta"}]
        codes = [f"`{event['error']['code']}`" for event in heard.of("error")]
        closed = f"{heard.code}" if heard.code else ""
        yield [situation.what, ", ".join(f"`{kind}`" for kind in kinds), " ".join(codes), closed]


def _short(kind: str) -> str:
    for prefix in ("conversation.item.input_audio_transcription.", "conversation.", "input_audio_buffer."):
        if kind.startswith(prefix):
            return kind.removeprefix(prefix)
    return kind


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _format_row(client: Callers, response_format: str) -> list[str]:
    cells = [_seen(client, {"response_format": response_format, **option}) for option in _OPTIONS.values()]
    return [f"`{response_format}`", *cells]


def _seen(client: Callers, asked: Parameters, *, translated: bool = False) -> str:
    try:
        answer = client.translate(asked) if translated else client.transcribe(asked)
    except openai.APIStatusError as error:
        return f"{error.status_code} `{error.param}`"
    match answer:
        case Heard():
            return "deltas, done" + (" with `logprobs`" if answer.done.logprobs else "")
        case Transcription():
            return "`Transcription`" + (" with `logprobs`" if answer.logprobs else "")
        case TranscriptionVerbose() | TranslationVerbose():
            lists = [name for name in ("words", "segments") if getattr(answer, name, None)]
            return f"`{type(answer).__name__}` with {', '.join(f'`{name}`' for name in lists)}"
        case Translation():
            return "`Translation`"
        case str():
            return "text as it is"


def _parameter_row(client: Callers, searching: Callers, sent: Parameters) -> list[str]:
    ignored = [_ignored(one, sent) for one in (client, searching)]
    ((name, value),) = sent.get("extra_body", sent).items()
    return [f"`{name}={value}`", _seen(client, sent), *ignored]


def _ignored(client: Callers, sent: Parameters) -> str:
    names = client.headers(sent).get("x-ignored-parameters")
    return f"`{names}`" if names else ""


def _error_rows() -> Iterable[list[str]]:
    for situation in SITUATIONS:
        seen = outcome(situation.what)
        yield [
            situation.what,
            str(seen.status),
            f"`{seen.exception}`",
            *(f"`{value}`" if value else "" for value in (seen.code, seen.param, seen.retry_after, seen.should_retry)),
            str(seen.requests),
        ]
