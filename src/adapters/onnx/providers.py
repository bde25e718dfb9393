"""Names of ONNX Runtime's execution providers, apart, for its import takes a fifth of a second."""

CPU = "CPUExecutionProvider"
