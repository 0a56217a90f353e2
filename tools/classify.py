"""Says where in the tree of an index images belong: see ``hierpretrain/commands/classify.py``."""

from hierpretrain.commands.classify import main

if __name__ == "__main__":
    main()
