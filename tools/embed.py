"""Embeds images and writes the embeddings: see ``hierpretrain/commands/embed.py``."""

from hierpretrain.commands.embed import main

if __name__ == "__main__":
    main()
