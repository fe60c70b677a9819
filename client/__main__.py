"""`python -m pictoglot_client`: the command line, where what it needs is installed."""

import sys


def main() -> None:
    """Run the command line; exit with a sentence where only the client is installed."""
    try:
        from .commands import main as run
    except ModuleNotFoundError as error:
        sys.exit(f"The command line needs {error.name}: pip install 'pictoglot-client[cli]'.")
    run()


if __name__ == "__main__":
    main()
