"""Compares runs: see ``hierpretrain/commands/compare.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("compare")
