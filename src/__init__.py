"""Self-hosted speech-to-text: NVIDIA Parakeet-TDT on MLX or ONNX Runtime, over REST and WebSocket."""

import os

# From 1.29 on, ONNX Runtime tells Microsoft of every process and model; nobody who hosts this wants that. It looks here
# once, when it is imported, which two adapters do: so this stands before all of them.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
