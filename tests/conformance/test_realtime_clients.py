"""What LiveKit, Pipecat and wyoming-openai send over a realtime session, message by message, and what they do with what they hear.

Source: livekit-plugins-openai 1.8.9, `STT` with `use_realtime`; pipecat-ai 1.14.0, `OpenAIRealtimeSTTService`;
wyoming-openai 0.8.0, models of `--stt-realtime-models`.
"""

import asyncio
import base64
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conformance.serving import Served
from tests.unit.entrypoints.http.openai.realtime.client import silence, voice

TRANSCRIPTION = "conversation.item.input_audio_transcription."


def ws(service: Served, query: str) -> str:
    return f"ws://127.0.0.1:{service.port}/v1/realtime?{query}"


async def append(socket: ClientConnection, audio: bytes, *, piece_s: float) -> None:
    step = round(piece_s * 24000) * 2
    for at in range(0, len(audio), step):
        data = base64.b64encode(audio[at : at + step]).decode("utf-8")
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": data}))


class LiveKit:
    """Its listener: turns of text, and how long their speech was."""

    def __init__(self) -> None:
        self.text = ""
        self.interim: list[str] = []
        self.finals: list[tuple[str, str]] = []
        self.usage: list[tuple[float, int, int]] = []
        self.speaking: list[str] = []
        self.times: dict[str, dict[str, int]] = {}

    def hear(self, data: dict[str, Any]) -> None:
        kind = data.get("type", "")
        assert kind != "error", data
        if kind == "input_audio_buffer.speech_started":
            self.times[data.get("item_id", "")] = {"start_ms": data.get("audio_start_ms", 0)}
            self.speaking.append("start")
        elif kind == "input_audio_buffer.speech_stopped":
            self.times[data["item_id"]]["end_ms"] = data.get("audio_end_ms", 0)
            self.speaking.append("stop")
        elif kind == TRANSCRIPTION + "delta":
            self.text += data.get("delta", "")
            self.interim.append(self.text)
        elif kind == TRANSCRIPTION + "completed":
            assert data.get("transcript", "").startswith(self.text)
            self.text = ""
            languages: list[dict[str, str]] = data.get("languages") or []
            detected = [one["code"] for one in languages if one.get("code")]
            self.finals.append((data.get("transcript", ""), detected[0] if detected else ""))
            times = self.times.pop(data.get("item_id", ""), {"start_ms": 0, "end_ms": 0})
            usage = data.get("usage", {})
            spoken_s = (times["end_ms"] - times["start_ms"]) / 1000
            self.usage.append((spoken_s, usage.get("input_tokens", 0), usage.get("output_tokens", 0)))


@pytest.mark.parametrize("model", ["gpt-4o-mini-transcribe", "gpt-transcribe"])
async def test_livekit(service: Served, model: str) -> None:
    transcription: dict[str, Any] = {"model": model}
    if model == "gpt-transcribe":
        transcription |= {"keywords": [], "languages": ["en"]}
    else:
        transcription |= {"language": "en"}
    update = {
        "session": {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"rate": 24000, "type": "audio/pcm"},
                    "transcription": transcription,
                    "turn_detection": {
                        "type": "server_vad",
                        "prefix_padding_ms": 600,
                        "silence_duration_ms": 350,
                        "threshold": 0.5,
                    },
                    "noise_reduction": {"type": "near_field"},
                }
            },
        },
        "type": "session.update",
    }
    listener = LiveKit()
    headers = {"User-Agent": "LiveKit Agents", "Authorization": "Bearer sk-none"}
    async with connect(ws(service, f"intent=transcription&model={model}"), additional_headers=headers) as socket:
        # It waits for nothing, and sends the same again when it takes the socket for another speaker.
        await socket.send(json.dumps(update))
        await append(socket, voice(1.2) + silence(1), piece_s=0.05)
        while len(listener.finals) < 1:
            listener.hear(json.loads(await socket.recv()))
        await socket.send(json.dumps(update))
        await append(socket, silence(1) + voice(0.8) + silence(1), piece_s=0.05)
        while len(listener.finals) < 2:
            listener.hear(json.loads(await socket.recv()))
    assert listener.finals[0] == ("This text comes", "en")
    assert listener.speaking == ["start", "stop"] * 2
    assert [spoken_s for spoken_s, _, _ in listener.usage] == pytest.approx([1.2, 1.4], abs=0.2)


async def test_livekit_with_a_model_that_detects_no_turns(service: Served) -> None:
    # gpt-realtime-whisper: `turn_detection` is not sent, and its own detector commits.
    update = {
        "session": {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"rate": 24000, "type": "audio/pcm"},
                    "transcription": {"model": "gpt-realtime-whisper", "language": "en"},
                }
            },
        },
        "type": "session.update",
    }
    listener = LiveKit()
    async with connect(ws(service, "intent=transcription&model=gpt-realtime-whisper")) as socket:
        await socket.send(json.dumps(update))
        for seconds in (1.2, 0.8):
            await append(socket, voice(seconds) + silence(0.6), piece_s=0.05)
            await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while len(listener.finals) < 2:
            listener.hear(json.loads(await socket.recv()))
    assert listener.speaking == []
    assert all(1 < len(text.split()) < 6 for text, _ in listener.finals)


class Pipecat:
    """Its listener: any error ends the session."""

    def __init__(self, turn_detection: dict[str, Any] | None) -> None:
        self.ready = asyncio.Event()
        self.turn_detection = turn_detection
        self.interim: list[str] = []
        self.finals: list[str] = []
        self.speaking: list[str] = []
        self.news = asyncio.Event()

    async def listen(self, socket: ClientConnection) -> None:
        async for message in socket:
            event = json.loads(message)
            match event.get("type", ""):
                case "session.created":
                    await socket.send(json.dumps(self.update))
                case "session.updated":
                    self.ready.set()
                case "input_audio_buffer.speech_started" | "input_audio_buffer.speech_stopped":
                    self.speaking.append(event["type"].rpartition("_")[2])
                case kind if kind == TRANSCRIPTION + "delta":
                    self.interim.append(event.get("delta", ""))
                case kind if kind == TRANSCRIPTION + "completed":
                    self.finals.append(event.get("transcript", ""))
                    self.news.set()
                case kind:
                    assert kind != "error", event

    @property
    def update(self) -> dict[str, Any]:
        return {
            "type": "session.update",
            "session": {
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "gpt-realtime-whisper", "language": "en", "delay": "low"},
                        "turn_detection": self.turn_detection,
                        "noise_reduction": {"type": "near_field"},
                    }
                },
            },
        }


@pytest.mark.parametrize("turn_detection", [None, {"type": "server_vad", "threshold": 0.5}])
async def test_pipecat(service: Served, turn_detection: dict[str, Any] | None) -> None:
    client = Pipecat(turn_detection)
    headers = {"Authorization": "Bearer sk-none"}
    async with connect(ws(service, "intent=transcription"), additional_headers=headers) as socket:
        listening = asyncio.create_task(client.listen(socket))
        await client.ready.wait()
        for _ in range(2):
            client.news.clear()
            await append(socket, voice(1.2) + silence(1), piece_s=0.02)
            if turn_detection is None:
                # Once for each time that its own detector hears a speaker stop; at the end there may be nothing left.
                await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            await client.news.wait()
        await socket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        await socket.close()
        await listening
    assert [1 < len(final.split()) < 6 for final in client.finals] == [True, True]
    assert "".join(client.interim) == "".join(client.finals)
    assert client.speaking == ([] if turn_detection is None else ["started", "stopped"] * 2)


@pytest.mark.parametrize("prompt", [{}, {"prompt": "Names of rooms."}], ids=["plain", "prompt"])
async def test_wyoming_openai(service: Served, prompt: dict[str, str]) -> None:
    """It commits once, after Home Assistant's `audio-stop`, and gives up at the first error."""
    session = {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "whisper-1", "language": "en", **prompt},
                "turn_detection": None,
            }
        },
    }
    chunks: list[str] = []
    async with connect(ws(service, "intent=transcription"), proxy=None) as socket:
        await socket.send(json.dumps({"type": "session.update", "session": session}))
        # Home Assistant's chunks of 1024 samples at 16 kHz.
        await append(socket, voice(3) + silence(1), piece_s=0.064)
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        transcript = None
        while transcript is None:
            data = json.loads(await asyncio.wait_for(socket.recv(), 60))
            assert data["type"] not in ("error", TRANSCRIPTION + "failed"), data
            if data["type"] == TRANSCRIPTION + "delta":
                chunks.append(data["delta"])
            elif data["type"] == TRANSCRIPTION + "completed":
                transcript = data["transcript"]
    assert transcript
    assert "".join(chunks) == transcript
