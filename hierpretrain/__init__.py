"""HierPretrain: image embeddings that respect a label tree, for the OpenMMLab stack."""

__version__ = "0.1.0"
