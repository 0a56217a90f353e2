from hierpretrain.visualization.ablation import plot_ablations
from hierpretrain.visualization.figure import fit_text, save_figure
from hierpretrain.visualization.recall import plot_recall_curves, write_curves
from hierpretrain.visualization.retrieval_sheet import SheetRow, choose_rows, plot_retrieval_sheet
from hierpretrain.visualization.tsne import plot_tsne, tsne_map

__all__ = [
    "SheetRow",
    "choose_rows",
    "fit_text",
    "plot_ablations",
    "plot_recall_curves",
    "plot_retrieval_sheet",
    "plot_tsne",
    "save_figure",
    "tsne_map",
    "write_curves",
]
