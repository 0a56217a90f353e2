from hierpretrain.visualization.figure import fit_text, save_figure
from hierpretrain.visualization.retrieval_sheet import SheetRow, choose_rows, plot_retrieval_sheet
from hierpretrain.visualization.tsne import plot_tsne, tsne_map

__all__ = ["SheetRow", "choose_rows", "fit_text", "plot_retrieval_sheet", "plot_tsne", "save_figure", "tsne_map"]
