"""`python -m cli` and the console script are `sfm2tuples`: next to nothing is imported before Ctrl-C is watched for.

What comes before our first line, the start of the interpreter, is Python's: Ctrl-C there ends in Python's own words.
"""

from __future__ import annotations


def run() -> None:
    """Run a command; Ctrl-C at any time from here on is a line and exit code 130."""
    try:
        from cli import interruption

        interruption.leave_at_once()
        import atexit

        atexit.register(interruption.keep_exit_code)  # the first to be registered, so the last to be called
        from cli.main import main
    except KeyboardInterrupt:
        import os

        os.write(2, b"interrupted\n")
        os._exit(130)
    main()


if __name__ == "__main__":
    run()
