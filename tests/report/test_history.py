import json

import pytest

from hierpretrain.report.history import panels, read_history


def write(folder, start, lines):
    path = folder / start / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_resumed_run_takes_over_from_its_first_step(tmp_path):
    write(
        tmp_path, "20260101_000000", [{"loss": 3.0, "step": 10}, {"loss": 2.0, "step": 20}, {"loss": 9.0, "step": 30}]
    )
    write(tmp_path, "20260102_000000", [{"loss": 1.5, "step": 25}, {"loss": 1.0, "step": 35}])
    assert read_history(tmp_path) == {"loss": ([10, 20, 25, 35], [3.0, 2.0, 1.5, 1.0])}


def test_training_and_validation_have_steps_of_their_own(tmp_path):
    lines = [
        {"lr": 0.1, "loss": 3.0, "epoch": 1, "iter": 10, "step": 10, "time": 0.2, "memory": 100},
        {"emoji/recall@1": 0.5, "step": 1},
        {"lr": 0.05, "loss": 2.0, "epoch": 2, "iter": 20, "step": 20, "time": 0.2, "memory": 100},
        {"emoji/recall@1": 0.6, "step": 2},
    ]
    write(tmp_path, "20260101_000000", lines)
    assert read_history(tmp_path) == {
        "lr": ([10, 20], [0.1, 0.05]),
        "loss": ([10, 20], [3.0, 2.0]),
        "emoji/recall@1": ([1, 2], [0.5, 0.6]),
    }


def test_a_run_from_the_beginning_replaces_the_one_before(tmp_path):
    write(tmp_path, "20260101_000000", [{"loss": 3.0, "step": 10}, {"loss": 2.0, "step": 20}])
    write(tmp_path, "20260102_000000", [{"loss": 1.5, "step": 10}])
    assert read_history(tmp_path) == {"loss": ([10], [1.5])}


def test_the_folder_of_one_start_and_a_folder_without_history(tmp_path):
    write(tmp_path, "20260101_000000", [{"loss": 3.0, "step": 10}])
    assert read_history(tmp_path / "20260101_000000") == {"loss": ([10], [3.0])}
    assert read_history(tmp_path / "nowhere") == {}


def test_what_is_no_number_is_left_out(tmp_path):
    lines = [
        '{"loss": NaN, "step": 10}',
        {"loss": True, "step": 20},
        {"loss": 1.0},
        "",
        {"loss": 2, "step": 30, "x": "y"},
    ]
    write(tmp_path, "20260101_000000", lines)
    assert read_history(tmp_path) == {"loss": ([30], [2])}


def test_a_line_cut_off_at_the_end_is_left_out_and_elsewhere_an_error(tmp_path):
    path = write(tmp_path, "20260101_000000", [{"loss": 3.0, "step": 10}, '{"loss": 2.'])
    assert read_history(tmp_path) == {"loss": ([10], [3.0])}
    path.write_text('{"loss": 2.\n{"loss": 1.0, "step": 20}\n')
    with pytest.raises(ValueError, match=r"scalars.json:1 is damaged: .*; a line must be a JSON object: remove it"):
        read_history(tmp_path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"scalars.json:1: a line must be a JSON object; it is a list"):
        read_history(tmp_path)


def test_panels_have_one_quantity_each():
    curve = [1], [0.5]
    names = ["zeta", "lr", "loss", "loss_aux", "category/nmi", "category/recall@1", "emoji/recall@1"]
    names += ["level/category", "level/emoji", "emoji/num_queries", "category/num_queries", "violations"]
    found = {name: list(lines) for name, lines in panels(dict.fromkeys(names, curve)).items()}
    assert found == {
        "loss": ["loss"],
        "loss_aux": ["loss_aux"],
        "lr": ["lr"],
        "category/nmi": ["category/nmi"],
        "level": ["category", "emoji"],
        "recall@1": ["category", "emoji"],
        "violations": ["violations"],
        "zeta": ["zeta"],
    }
    assert list(found)[:3] == ["loss", "loss_aux", "lr"]
    assert panels({}) == {}


def test_losses_and_fractions_have_axes_of_their_own():
    levels = ["category", "emoji"]
    names = ["loss", *[f"loss/{level}" for level in levels], *[f"loss/unclamped/{level}" for level in levels]]
    names += ["batch_violations", *[f"batch_violations/{level}" for level in levels], "category/recall@1"]
    found = {name: list(lines) for name, lines in panels(dict.fromkeys(names, ([1], [0.5]))).items()}
    assert found == {
        "loss": ["loss", *levels],
        "loss/unclamped": levels,
        "batch_violations": ["batch_violations", *levels],
        "category/recall@1": ["category/recall@1"],
    }
    assert list(found)[:2] == ["loss", "loss/unclamped"]


def test_the_parts_of_a_joint_loss_have_panels_below_it():
    parts = ["contrastive", "contrastive/kind", "contrastive/unclamped/kind", "cross_entropy", "cross_entropy/kind"]
    curves = dict.fromkeys(["loss", *[f"loss/{part}" for part in parts]], ([1], [0.5]))
    assert {name: list(lines) for name, lines in panels(curves).items()} == {
        "loss": ["loss", "contrastive", "cross_entropy"],
        "loss/contrastive": ["kind"],
        "loss/contrastive/unclamped": ["kind"],
        "loss/cross_entropy": ["kind"],
    }
