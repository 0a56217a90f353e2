from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.visualization.ablation import plot_ablations
    from hierpretrain.visualization.figure import fit_path, fit_text, save_figure
    from hierpretrain.visualization.grades import grade_colours
    from hierpretrain.visualization.recall import plot_recall_curves, write_curves
    from hierpretrain.visualization.retrieval_sheet import SheetNeighbour, SheetRow, choose_rows, plot_retrieval_sheet
    from hierpretrain.visualization.tsne import plot_tsne, tsne_map

__all__ = [
    "SheetNeighbour",
    "SheetRow",
    "choose_rows",
    "fit_path",
    "fit_text",
    "grade_colours",
    "plot_ablations",
    "plot_recall_curves",
    "plot_retrieval_sheet",
    "plot_tsne",
    "save_figure",
    "tsne_map",
    "write_curves",
]

__getattr__ = imported_on_demand(__name__)
