"""``python -m harness`` and the ``harness`` command."""

import sys


def main() -> int:
    try:
        from harness.cli.main import main as run
    except ModuleNotFoundError as error:
        print(f"harness: {error.name} is not installed; the extra 'harness' brings it", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
