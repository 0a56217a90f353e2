"""Checks a data set: see ``hierpretrain/commands/check.py``."""

from hierpretrain.commands.check import main

if __name__ == "__main__":
    main()
