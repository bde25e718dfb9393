"""The web, as far as callers may send the service there."""
