"""Evaluates a checkpoint as a config says: see ``hierpretrain/commands/test.py``."""

from hierpretrain.commands.test import main

if __name__ == "__main__":
    main()
