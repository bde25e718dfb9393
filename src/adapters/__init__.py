"""Implementations of the ports, one technology a module; they do not know each other."""
