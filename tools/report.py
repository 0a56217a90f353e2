"""Writes a report of a checkpoint and a set of images: see ``hierpretrain/commands/report.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("report")
