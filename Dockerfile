# syntax=docker/dockerfile:1
# Linux on amd64 and arm64, computing on the CPU. For NVIDIA: docker build --build-arg BACKEND=cuda .
# With more of pyproject.toml's extras, such as workers on Ray: docker build --build-arg EXTRAS="ray tracing" .

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG BACKEND=cpu
ARG EXTRAS=""
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never
RUN --mount=type=cache,target=/root/.cache/pip pip install uv==0.13.9
WORKDIR /build
# What is locked changes less often than the code: it gets a layer of its own.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    case "$BACKEND" in \
      cpu) set -- ;; \
      mlx|cuda) set -- --extra "$BACKEND" ;; \
      *) echo "BACKEND is cpu, mlx or cuda, not $BACKEND" >&2; exit 1 ;; \
    esac \
    # What several servers share, limits and jobs, is always there.
    && for extra in redis postgresql $EXTRAS; do set -- "$@" --extra "$extra"; done \
    && uv sync --frozen --no-dev --no-install-project "$@"
COPY LICENSE README.md ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/uv \
    uv build --wheel --out-dir dist \
    && uv pip install --python /opt/venv --no-deps dist/*.whl

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="parakeet-service" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 --user-group parakeet \
    && install --directory --owner=parakeet --group=parakeet /models /data
COPY --from=build /opt/venv /opt/venv
# NVIDIA_*: read by the NVIDIA container runtime, without effect elsewhere.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    CACHE_DIR=/models/graphs \
    DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_FORMAT=json \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /home/parakeet
VOLUME /models /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Ready, not only alive: the first start downloads the model, and may take its time. No proxy stands before ourselves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --start-interval=5s \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=4)"]
CMD ["parakeet-service", "serve"]
