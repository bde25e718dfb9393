"""The Model Context Protocol: tools for assistants, over standard streams and streamable HTTP."""
