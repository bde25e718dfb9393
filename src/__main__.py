"""The ``parakeet-service`` command, which is ``python -m parakeet_service`` as well."""

import sys

from .bootstrap import run_cli


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    sys.exit(run_cli(sys.argv[1:]))


if __name__ == "__main__":
    main()
