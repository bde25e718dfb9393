"""The web application: ``uvicorn parakeet_service.main:app``."""

from .bootstrap.app import build_app

app = build_app()
