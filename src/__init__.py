"""Self-hosted speech-to-text: NVIDIA Parakeet-TDT on MLX or ONNX Runtime, over REST and WebSocket."""

import os

# From 1.29 on, ONNX Runtime sends Microsoft an event for every process and model, which a self-hosted service must not do. It looks here
# once, when it is imported, which two adapters do: so this stands before all of them.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
