"""A process of its own for an adapter's work, and typed messages to it."""
