"""Writes a trained encoder as one file that runs without this toolbox: see ``hierpretrain/commands/export.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("export")
