"""Writes a config for a folder or a list of images: see ``hierpretrain/commands/init.py``."""

from hierpretrain.commands.init import main

if __name__ == "__main__":
    main()
