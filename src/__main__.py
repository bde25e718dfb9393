"""``python -m parakeet_service`` is the ``parakeet-service`` command."""

import sys

from .entrypoints.cli import main

sys.exit(main())
