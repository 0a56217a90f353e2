"""Makes a split file of seen and unseen classes: see ``hierpretrain/commands/make_split.py``."""

from hierpretrain.commands.make_split import main

if __name__ == "__main__":
    main()
