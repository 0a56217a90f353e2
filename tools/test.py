"""Evaluates a checkpoint as a config says: see ``hierpretrain/commands/test.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("test")
