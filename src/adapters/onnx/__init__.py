"""A Parakeet engine on ONNX Runtime, for machines where MLX has no wheels or is slow."""
