"""The service as OpenAI's official client, and other clients that people use, see it: over a socket, type by type."""
