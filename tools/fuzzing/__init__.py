"""Damage to files at random, readers that meet it in processes of their own, and what came of it, counted."""
