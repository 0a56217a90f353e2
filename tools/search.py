"""Finds the images of an index that are most like given ones: see ``hierpretrain/commands/search.py``."""

from hierpretrain.commands.search import main

if __name__ == "__main__":
    main()
