"""Self-hosted speech-to-text: NVIDIA Parakeet-TDT on Apple MLX, over REST and WebSocket."""
