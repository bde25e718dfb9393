"""Every setting of the service: from the environment, a ``.env`` file, or the command line."""

import re
import sys
from base64 import b64decode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from limits import parse_many
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_FILE = ".env"
ENV_ENCODING = "utf-8-sig"
"""Editors on Windows begin a file with a byte-order mark."""


class Settings(BaseSettings):
    """The effective settings; a value that cannot be used stops the start."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_file_encoding=ENV_ENCODING, env_ignore_empty=True, extra="ignore", frozen=True
    )

    model_id: str = Field(
        default="mlx-community/parakeet-tdt-0.6b-v2",
        min_length=1,
        description="`embedded`, a Hugging Face Hub id, or a directory with `config.json` and `model.safetensors`",
    )
    model_precision: Literal["bf16", "fp32", "int8", "int4"] | None = Field(
        default=None, description="precision of the weights; unset: what suits the engine and the device"
    )
    engine: Literal["auto", "mlx", "onnx"] = Field(
        default="auto", description="what computes the model: `auto` takes the faster one on this machine"
    )
    cache_dir: Path | None = Field(
        default=None, description="directory for the ONNX engine's graphs; unset: the user's cache directory"
    )
    onnx_providers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("CPUExecutionProvider",),
        min_length=1,
        description="ONNX Runtime execution providers for the ONNX engine, comma-separated, the preferred first",
    )
    offline: bool = Field(
        default=False, description="never contact the Hugging Face Hub; the model must already be in its cache"
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="maximum chunks in one batch, and chunks of one recording queued at a time; "
        "not set: 4 on a CPU; on a GPU 64, and 32 of one recording",
    )
    mlx_cache_limit: int | None = Field(
        default=None,
        ge=0,
        description="memory that MLX keeps for reuse after it was freed, in bytes; "
        "not set: 134217728, on an NVIDIA GPU 4294967296",
    )
    target_sr: int = Field(default=16000, ge=8000, le=48000, description="sample rate of the model, in Hz")
    max_audio_duration: float = Field(
        default=30, gt=0, description="maximum length of a recording with `should_chunk=false`, in seconds"
    )
    max_file_duration: float = Field(default=14400, gt=0, description="maximum length of a recording, in seconds")
    max_upload_bytes: int = Field(default=1 << 30, ge=1, description="maximum size of an upload, in bytes")
    max_uploads: int | None = Field(
        default=None,
        ge=1,
        description="maximum concurrent uploads, counted from the first byte to the response; "
        "not set: 4 times the batch size, at least 64",
    )
    header_timeout: float = Field(
        default=20, gt=0, description="maximum time from connecting to the end of a request's headers, in seconds"
    )
    upload_pause: float = Field(default=30, gt=0, description="maximum gap between two pieces of an upload, in seconds")
    min_upload_rate: float = Field(
        default=4096,
        ge=0,
        description="minimum average rate of an upload after `UPLOAD_PAUSE`, in bytes per second; 0 allows any",
    )
    upload_timeout: float = Field(default=14400, gt=0, description="maximum time for one upload, in seconds")
    chunk_duration: float = Field(default=60, ge=5, description="maximum length of a chunk, in seconds")
    chunk_overlap: float = Field(
        default=2, ge=0, description="overlap of two chunks where the cut is not in a pause, in seconds"
    )
    processing_timeout: float = Field(
        default=120, gt=0, description="maximum processing time of one recording, in seconds"
    )
    max_queue: int | None = Field(
        default=None,
        ge=1,
        description="maximum chunks waiting for the model; not set: 16 times the batch size, at least 64",
    )
    max_streams: int = Field(
        default=32,
        ge=1,
        description="maximum concurrent live sessions; each channel that is transcribed by itself counts",
    )
    isolation: Literal["none", "process"] = Field(
        default="none",
        description="`process` runs the model in a separate process and restarts it after a crash",
    )
    http_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="processes that speak HTTP, for a GPU that is faster than one of them: they share a port, and the model, "
        "which has a process of its own then",
    )
    cluster: Literal["none", "ray"] = Field(
        default="none", description="`ray` runs the model in workers on a Ray cluster; needs the extra `ray`"
    )
    cluster_workers: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="number of workers; not set: one per GPU, or on CPUs one per machine",
    )
    cluster_token: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="token that all nodes of the Ray cluster share, at least 32 characters; "
        "not set: a random one for a local Ray, else Ray's own settings",
    )
    ray_address: str = Field(
        default="",
        description="address of the Ray cluster, such as `auto` or `ray-head:6379`, which a service on another machine joins with "
        "a node without workers; empty: start Ray on this machine, on loopback only",
    )
    stream_left_context: float = Field(
        default=5, ge=0, description="already transcribed audio that each live step sees again, in seconds"
    )
    stream_chunk: float = Field(
        default=1, ge=0.16, le=30, description="interval between updates of live text, in seconds"
    )
    stream_right_context: float = Field(
        default=8, ge=0, description="audio that must follow a word before its text is stable, in seconds"
    )
    stream_idle: float = Field(
        default=60,
        gt=0,
        description="time after which a `/ws` or Wyoming client that sends nothing, not even `keepalive`, is disconnected, and any live client that answers no ping, in seconds",
    )
    host: str = Field(default="127.0.0.1", description="address that `serve` listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port that `serve` listens on; 0 picks a free one")
    http: bool = Field(default=True, description="`false`, or `--no-http`: `serve` runs Wyoming alone")
    wyoming_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port for Home Assistant and other Wyoming clients, usually 10300; empty: none; 0 picks a free one",
    )
    wyoming_host: str = Field(
        default="127.0.0.1", description="address that Wyoming listens on; the protocol has no keys"
    )
    wyoming_socket: str = Field(default="", description="path of a Unix socket for Wyoming clients")
    wyoming_silence: float = Field(
        default=0.8,
        ge=0,
        le=60,
        description="silence after which a Wyoming client that speaks live gets its transcript, in seconds; "
        "0 waits until it says that it has ended",
    )
    wyoming_connections: int = Field(default=64, ge=1, description="maximum concurrent Wyoming connections")
    wyoming_zeroconf: bool = Field(
        default=False,
        description="announce Wyoming on the local network, so that Home Assistant finds it; needs the extra `wyoming`",
    )
    mcp: bool = Field(
        default=False, description="serve assistants at `/mcp`, by the Model Context Protocol; needs the extra `mcp`"
    )
    mcp_root: Path | None = Field(
        default=None,
        description="directory below which MCP clients may name files; not set: none at `/mcp`, and the working directory with `parakeet-service mcp`",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="accepted API keys, comma-separated, each `key` or `name:key`; empty: no key is needed"
    )
    rate_limit: str = Field(
        default="",
        description="maximum requests per key name, or per address without a key, such as `60/minute; 1000/day`",
    )
    audio_rate_limit: str = Field(
        default="",
        description="maximum seconds of audio per key name, or per address without a key, such as `7200/hour`",
    )
    rate_limit_storage: SecretStr = Field(
        default=SecretStr(""),
        description="where rate limits are counted, such as `redis://host:6379/0`, so that several servers share them; "
        "empty: in this process; needs the extra `redis`",
    )
    client_secret_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="key that signs the short-lived keys of realtime clients, at least 32 characters; servers with the "
        "same one accept each other's; not set: a random one",
    )
    root_path: str = Field(
        default="",
        pattern=r"^((/[\w.~-]+)+)?$",
        description="prefix under which a proxy shows the service, such as `/stt`; `X-Forwarded-Prefix` sets it, too",
    )
    keepalive_timeout: float = Field(
        default=75,
        gt=0,
        description="time that an idle connection is kept open, in seconds; longer than clients and proxies reuse one",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="host names under which the service may be called without `API_KEYS`, comma-separated, beside "
        "addresses, `localhost` and the machine's own; `*.example.com` allows those below it, `*` any",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="other web origins that may call the API, comma-separated; `*` allows any"
    )
    jobs: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="`/v1/jobs`: `on`, `off`, or `auto`: on, unless `DATA_DIR` is left at its default and cannot be "
        "used, such as by a second service on the machine",
    )
    data_dir: Path | None = Field(
        default=None,
        description="directory for jobs and their recordings, which one service at a time holds; "
        "unset: the user's data directory",
    )
    jobs_database: SecretStr = Field(
        default=SecretStr(""),
        description="`postgresql://USER:PASSWORD@HOST/NAME` for several servers with the same jobs; "
        "empty: `jobs.db` in `DATA_DIR`",
    )
    job_retention: Annotated[float, NoDecode] = Field(
        default=604800,
        ge=0,
        allow_inf_nan=False,
        description="time after which ended jobs are deleted, in seconds or as `7d`, `12h`, `30m`; 0 keeps them",
    )
    job_workers: int = Field(default=2, ge=1, le=256, description="jobs that are transcribed at once")
    job_lease: float = Field(
        default=30, ge=1, description="time after which other servers take over the jobs of a dead one, in seconds"
    )
    max_jobs: int = Field(default=1000, ge=1, description="maximum jobs that have not ended")
    max_jobs_per_key: int = Field(default=200, ge=1, description="maximum jobs of one API key that have not ended")
    max_job_bytes: int = Field(
        default=50 << 30, ge=1, description="maximum size of the recordings of all jobs together, in bytes"
    )
    webhook_secret: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="signs the webhooks of jobs: `whsec_` and at least 24 bytes in Base64; "
        "several, comma-separated, while one replaces the other; empty: none are sent",
    )
    url_allow_http: bool = Field(
        default=False, description="open `http://` URLs that callers give, too, and not only `https://` ones"
    )
    url_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="hosts of your own network that callers may name in URLs, comma-separated: names, addresses or "
        "`*.example.com`; they may have private addresses and any port, while all others must be public",
    )
    vad: Literal["silero", "none"] = Field(
        default="silero", description="voice activity detector; `none` transcribes everything, silence and noise too"
    )
    vad_processes: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="processes that run the voice activity detector on recordings, beside the service's own; "
        "not set: on an NVIDIA GPU one for each 4 cores, at most 4; else 0",
    )
    audio_decoder: Literal["ffmpeg", "pydub"] = Field(default="ffmpeg", description="decoder of compressed recordings")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="minimum level of the service's own log lines; libraries log warnings and errors only",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` writes for people on a terminal and JSON elsewhere"
    )

    @field_validator("root_path", mode="before")
    @classmethod
    def _prefix(cls, value: object) -> object:
        return "/" + value.strip("/") if isinstance(value, str) and value.strip("/") else ""

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError("a host is a name such as stt.example.com, without scheme, port or path")
        return tuple(host.lower().rstrip(".") for host in hosts)

    @field_validator("job_retention", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        match = _TIME.fullmatch(value.strip().lower()) if isinstance(value, str) else None
        return float(match[1]) * _UNITS[match[2]] if match else value

    @field_validator("webhook_secret")
    @classmethod
    def _can_sign(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            try:
                key = b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
            except ValueError:
                key = b""
            if not 24 <= len(key) <= 64:
                raise ValueError("a secret is whsec_ and 24 to 64 random bytes in Base64")
        return secrets

    @field_validator("url_allowed_hosts")
    @classmethod
    def _are_names_or_addresses(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_trusted_host(host) for host in hosts)

    @field_validator(
        "api_keys",
        "allowed_hosts",
        "allowed_origins",
        "onnx_providers",
        "url_allowed_hosts",
        "webhook_secret",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _keys_are_distinct(cls, entries: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        keys = [key.get_secret_value() for _, key in _named(entries)]
        if not all(keys):
            raise ValueError("an entry has a name but no key")
        if len(set(keys)) < len(keys):
            raise ValueError("the same key is listed twice")
        return entries

    @field_validator("rate_limit", "audio_rate_limit")
    @classmethod
    def _is_limit(cls, value: str) -> str:
        if value:
            try:
                parse_many(value)
            except ValueError as error:
                raise ValueError("write limits as 60/minute or 60/minute; 1000/day") from error
        return value

    @field_validator("rate_limit_storage")
    @classmethod
    def _is_storage(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and not url.startswith(("redis://", "rediss://", "memory://")):
            raise ValueError("write it as redis://host:6379/0, or rediss:// with TLS")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def named_keys(self) -> tuple[tuple[str, SecretStr], ...]:
        """The keys and their owners' names; two keys may have one name, while one replaces the other."""
        return _named(self.api_keys)

    @property
    def key_owners(self) -> Mapping[str, str]:
        """Whose the jobs of a key are, by the name that `named_keys` gives it.

        The name if the key was given one, else a digest of the key: its place among the others may change.
        """
        given = {match[1] for entry in self.api_keys if (match := _NAMED_KEY.fullmatch(entry.get_secret_value()))}
        return {
            name: f"key {name}"
            if name in given
            else f"digest {sha256(key.get_secret_value().encode()).hexdigest()[:32]}"
            for name, key in self.named_keys
        }

    @model_validator(mode="after")
    def _overlap_fits(self) -> "Settings":
        if self.chunk_overlap * 2 > self.chunk_duration:
            raise ValueError("CHUNK_OVERLAP must be at most half of CHUNK_DURATION")
        return self

    @model_validator(mode="after")
    def _one_home_for_the_model(self) -> "Settings":
        if self.cluster != "none" and self.isolation != "none":
            raise ValueError("CLUSTER and ISOLATION exclude each other: a cluster's workers are processes already")
        return self

    @model_validator(mode="after")
    def _processes_share_what_they_must(self) -> "Settings":
        if self.http_processes == 1:
            return self
        limits = bool(self.rate_limit or self.audio_rate_limit)
        problems = {
            "does not work on Windows": sys.platform == "win32",
            "does not work with HTTP=false": not self.http,
            "does not work with MCP=true, whose sessions are in one process": self.mcp,
            "needs RATE_LIMIT_STORAGE=redis://... where RATE_LIMIT or AUDIO_RATE_LIMIT is set, for limits that all share": (
                limits and not self.rate_limit_storage.get_secret_value().startswith("redis")
            ),
        }
        for problem, is_there in problems.items():
            if is_there:
                raise ValueError(f"HTTP_PROCESSES {problem}")
        return self

    @model_validator(mode="after")
    def _something_is_served(self) -> "Settings":
        if not self.http and self.wyoming_port is None and not self.wyoming_socket:
            raise ValueError("HTTP=false needs WYOMING_PORT or WYOMING_SOCKET: nothing would be served")
        if self.wyoming_zeroconf and self.wyoming_port is None:
            raise ValueError("WYOMING_ZEROCONF needs WYOMING_PORT")
        return self

    @model_validator(mode="after")
    def _system_has_it(self) -> "Settings":
        if sys.platform == "win32" and self.isolation == "process":
            raise ValueError("ISOLATION=process does not work on Windows, which hands no sockets to other processes")
        if sys.platform == "win32" and self.wyoming_socket:
            raise ValueError("WYOMING_SOCKET does not work on Windows: use WYOMING_PORT")
        return self


_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SUBPROTOCOL = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_HOST = re.compile(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*\.?")


def _trusted_host(host: str) -> str:
    """A name in lower case, or an address as a URL has it."""
    try:
        return str(ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        if host == "*" or not _HOST.fullmatch(host):
            raise ValueError(
                "a host is a name such as nas.example.com, *.example.com or an address, without scheme, port or path"
            ) from None
    return host.lower().rstrip(".")


_NAMED_KEY = re.compile(r"([\w.@-]{0,64}):(.*)", re.ASCII)


def _named(entries: Iterable[SecretStr]) -> tuple[tuple[str, SecretStr], ...]:
    """Names and keys; one without a name is called after its position.

    The first colon ends a name, so that a named key may hold more of them; ``:a:b`` is the key ``a:b`` without a name.
    """
    parsed: list[tuple[str, str]] = []
    for entry in entries:
        match = _NAMED_KEY.fullmatch(entry.get_secret_value())
        name, key = match.groups() if match else ("", entry.get_secret_value())
        parsed.append((name, key))
    taken = {name for name, _ in parsed}
    named: list[tuple[str, SecretStr]] = []
    for number, (given, key) in enumerate(parsed, start=1):
        # Somebody else may have been given the name.
        name = given or next(f"key-{n}" for n in count(number) if f"key-{n}" not in taken)
        taken.add(name)
        named.append((name, SecretStr(key)))
    return tuple(named)


def key_problems(settings: Settings) -> list[str]:
    """What clients cannot do with some of the keys, in sentences that name no key."""
    return [
        f"the key of {name} has characters that web pages cannot send for live sessions: "
        "use letters, digits and - . _ ~ only"
        for name, key in settings.named_keys
        if not _SUBPROTOCOL.fullmatch(key.get_secret_value())
    ]
