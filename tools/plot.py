"""Draws what a checkpoint embeds: see ``hierpretrain/commands/plot.py``."""

from hierpretrain.commands.plot import main

if __name__ == "__main__":
    main()
