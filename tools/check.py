"""Checks a data set: see ``hierpretrain/commands/check.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("check")
