"""Parakeet models on MLX: everything that knows the technology, behind the port SpeechModel."""
