"""The configuration of the service: settings, flags and logging."""
