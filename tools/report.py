"""Writes a report of a checkpoint and a set of images: see ``hierpretrain/commands/report.py``."""

from hierpretrain.commands.report import main

if __name__ == "__main__":
    main()
