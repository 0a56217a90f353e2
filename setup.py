"""Installs HierPretrain: ``pip install -e .`` is all that a fresh environment needs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="hierpretrain",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "hierpretrain/__init__.py").read_text("utf-8")).group(1),
    description="Image embeddings that respect a label tree, for the OpenMMLab stack",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["hierpretrain", "hierpretrain.*"]),
    python_requires=">=3.11,<3.14",
    install_requires=[
        # from 2.6 on, torch.load reads weights only unless told otherwise
        "torch>=2.6",
        "torchvision>=0.21",
        "mmengine>=0.10.7,<1.0",
        "mmpretrain>=1.2.0,<2.0",
        # mmcv without compiled operators, none of which are used: the one form of it that plain pip installs
        "mmcv-lite>=2.2.0,<2.4",
        "faiss-cpu>=1.9",
        "scikit-learn>=1.5",
        "numpy>=2.0",
        "matplotlib>=3.8",
        "pillow>=10",
    ],
    extras_require={
        "test": ["pytest>=8", "ruff>=0.9", "mypy>=1.13", "pytorch-metric-learning>=2.8"],
        "tensorboard": ["tensorboard"],
    },
)
