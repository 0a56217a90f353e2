"""Embeds images and writes the embeddings: see ``hierpretrain/commands/embed.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("embed")
