"""What the evaluator collects, hands to whom, and lets go."""

import pytest
from mmengine.evaluator import BaseMetric, Evaluator

from hierpretrain.evaluation import EmbeddingEvaluator, EmbeddingMetric, RetrievalMetric
from hierpretrain.evaluation.evaluator import collecting
from hierpretrain.registry import EVALUATORS
from tests.evaluation.test_exchange import META, NUMBER, evaluate, metrics, samples


class Seen(EmbeddingMetric):
    """A metric of one's own, which remembers what it was given."""

    def measure(self, embedded):
        self.embedded = embedded
        return {"number": len(embedded.paths)}


class Theirs(BaseMetric):
    """A metric as of another package: no embedding, and a result by batches."""

    default_prefix = "theirs"

    def process(self, data_batch, data_samples):
        self.results.append((data_batch, [sample["img_path"] for sample in data_samples]))

    def compute_metrics(self, results):
        return {"batches": [batch for batch, _ in results], "images": sum(len(paths) for _, paths in results)}


def run(made, dealt=range(NUMBER), **options):
    made.dataset_meta = META
    for attribute, value in options.items():
        setattr(made, attribute, value)
    for number, start in enumerate(range(0, len(dealt), 10)):
        made.process(data_samples=samples(dealt[start : start + 10]), data_batch=number)
    return made.evaluate(len(dealt))


def test_all_metrics_look_at_one_object_which_is_then_let_go():
    first, second = Seen(prefix="first"), Seen(prefix="second")
    made = EmbeddingEvaluator([first, second])
    assert run(made) == {"first/number": NUMBER, "second/number": NUMBER}
    assert first.embedded is second.embedded
    assert made._embeddings is None
    assert made._samples == first.results == []


def test_a_metric_of_one_s_own_needs_only_measure():
    assert evaluate([Seen(prefix="my")], list(range(NUMBER))) == {"my/number": NUMBER}
    with pytest.raises(NotImplementedError, match="EmbeddingMetric must define measure, or map and reduce"):
        evaluate([EmbeddingMetric()], [0])


def test_it_measures_the_images_of_its_splits_alone():
    both = ["a", "b"]
    given = {"all": None, "b": "b", "both": both, "none": ()}
    made = EmbeddingEvaluator([Seen(splits=splits, prefix=name) for name, splits in given.items()])
    made.dataset_meta = META | dict(splits=("a", "b"))
    made.process([{**sample, "split": split} for sample, split in zip(samples(range(6)), both * 3, strict=True)])
    assert made.evaluate(6) == {"all/number": 6, "b/number": 3, "both/number": 6, "none/number": 6}
    assert made.metrics[1].embedded.indices.tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match="no evaluated image is of the split 'c'"):
        Seen(splits="c").dataset_meta = META | dict(splits=("a", "b"))


def test_what_is_kept_is_what_metrics_looked_at_until_it_is_released():
    seen = Seen()
    made = EmbeddingEvaluator([seen])
    run(made, keep=True)
    assert made.embeddings() is made.embeddings() is seen.embedded
    run(made, dealt=range(5), keep=True)
    assert made.embeddings().indices.tolist() == list(range(5))  # of the last evaluation alone
    made.release()
    assert not made.keep
    with pytest.raises(ValueError, match="no embedded image to evaluate"):
        made.embeddings()


def test_an_evaluator_without_metrics_collects_if_it_is_asked_to():
    made = EmbeddingEvaluator([])
    assert run(made, keep=True) == {}
    assert len(made.embeddings().paths) == NUMBER


def test_metrics_of_others_get_batches_and_need_no_embedding():
    made = EmbeddingEvaluator([Theirs()])
    made.process(data_samples=[dict(img_path="a.png")], data_batch="first")
    assert made.evaluate(1) == {"theirs/batches": ["first"], "theirs/images": 1}
    beside = run(EmbeddingEvaluator([Theirs(), Seen()]))
    assert beside == {"theirs/batches": list(range(7)), "theirs/images": NUMBER, "number": NUMBER}


def test_results_of_one_name_are_an_error():
    with pytest.raises(ValueError, match=r"two metrics have a result 'number'; give one of them a prefix='...'"):
        run(EmbeddingEvaluator([Seen(), Seen()]))


def test_nothing_is_left_of_an_evaluation_that_failed():
    made = EmbeddingEvaluator([RetrievalMetric(["fine"], query="train", gallery="test")])
    with pytest.raises(ValueError, match="no evaluated image is of the split 'test'"):
        run(made, dealt=[1, 2, 4])
    assert run(made)["fine/num_queries"] > 3


def test_a_config_names_it():
    metric = dict(type="RetrievalMetric", levels=["fine"], _scope_="hierpretrain")
    made = EVALUATORS.build(dict(type="EmbeddingEvaluator", metrics=metric))
    assert isinstance(made, EmbeddingEvaluator)
    assert run(made).keys() >= {"fine/map@r", "fine/num_queries_without_positives", "fine/num_lone_queries"}


def test_in_the_evaluator_of_mmengine_metrics_find_the_same():
    made = metrics()
    assert run(Evaluator(made)) == run(EmbeddingEvaluator(metrics()))


def test_the_evaluator_of_mmengine_gives_way_and_one_of_one_s_own_stays():
    class Mine(Evaluator):
        pass

    theirs, mine = Evaluator([Seen()]), Mine([])
    theirs.dataset_meta = META
    made = collecting(theirs)
    assert (type(made), made.metrics, made.dataset_meta) == (EmbeddingEvaluator, theirs.metrics, META)
    assert collecting(made) is made
    assert collecting(mine) is mine
    assert collecting(Evaluator(Seen())).dataset_meta is None
