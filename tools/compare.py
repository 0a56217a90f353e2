"""Compares runs: see ``hierpretrain/commands/compare.py``."""

from hierpretrain.commands.compare import main

if __name__ == "__main__":
    main()
