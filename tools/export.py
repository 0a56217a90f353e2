"""Writes a trained encoder as one file that runs without this toolbox: see ``hierpretrain/commands/export.py``."""

from hierpretrain.commands.export import main

if __name__ == "__main__":
    main()
