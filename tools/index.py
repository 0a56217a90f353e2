"""Embeds images and makes an index of them: see ``hierpretrain/commands/index.py``."""

from hierpretrain.commands.index import main

if __name__ == "__main__":
    main()
