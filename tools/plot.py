"""Draws what a checkpoint embeds: see ``hierpretrain/commands/plot.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("plot")
