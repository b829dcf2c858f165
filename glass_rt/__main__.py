"""The `glass-rt` command, and `python -m glass_rt`. Ctrl-C works from here on, before anything large is imported."""

from __future__ import annotations

from glass_rt.machine.leave import leave_on_interrupt


def main() -> None:
    """Runs the command line."""
    leave_on_interrupt()
    from glass_rt.cli import main as run_commands

    run_commands()


if __name__ == "__main__":
    main()
