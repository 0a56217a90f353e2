"""Slow oracles of classification: Python loops over the formulas, in float64."""

import math

import numpy as np

from hierpretrain.taxonomy import PAD
from tests.reference.metrics import ranking, similarity


def knn_classify(train, train_labels, test, *, neighbours=20, temperature=0.07, k=5):
    rows = [i for i, label in enumerate(train_labels.tolist()) if label != PAD]
    train, labels = train[rows].double(), [train_labels.tolist()[i] for i in rows]
    predictions = []
    for query in test.double():
        votes = {}
        for j in ranking(query, train)[:neighbours]:
            votes[labels[j]] = votes.get(labels[j], 0) + math.exp(similarity(query, train[j]) / temperature)
        best = sorted(votes, key=lambda label: (-votes[label], label))
        best += [PAD] * len(set(labels))
        predictions.append(best[: min(k, len(set(labels)))])
    return predictions


def accuracy(predicted, labels, *, ks=(1, 5)):
    items = [(list(row), label) for row, label in zip(predicted.tolist(), labels.tolist(), strict=True) if label != PAD]
    shares = {f"top{k}": sum(label in row[:k] for row, label in items) / len(items) for k in ks}
    return shares | {"num_items": len(items), "num_left_out": len(labels) - len(items)}


def average_precision(scores, targets, classes):
    """Metrics and APs by class; ``targets`` holds a set of classes for each image."""
    items = [(row, wanted) for row, wanted in zip(scores.tolist(), targets, strict=True) if wanted]
    columns = {c: [row[j] for row, _ in items] for j, c in enumerate(classes)}
    present = sorted(set().union(*targets))
    unscored = [c for c in present if c not in columns]
    columns |= {c: [-math.inf] * len(items) for c in unscored}

    def by_thresholds(decisions):
        area, recall_before, positive = 0.0, 0.0, sum(right for _, right in decisions)
        for threshold in sorted({score for score, _ in decisions}, reverse=True):
            taken = [right for score, right in decisions if score >= threshold]
            precision, recall = sum(taken) / len(taken), sum(taken) / positive
            area += (recall - recall_before) * precision
            recall_before = recall
        return area

    decisions = {
        c: [(score, c in wanted) for score, (_, wanted) in zip(column, items, strict=True)]
        for c, column in columns.items()
    }
    aps = {c: by_thresholds(decisions[c]) for c in present}
    predicted = [max(columns, key=lambda c: columns[c][i]) for i in range(len(items))]  # the first of equal ones
    right = [c in wanted for c, (_, wanted) in zip(predicted, items, strict=True)]
    precisions = []
    for c in present:
        named = [r for r, p in zip(right, predicted, strict=True) if p == c]
        precisions.append(sum(named) / len(named) if named else 0.0)
    owned = [aps[c] for _, wanted in items for c in wanted]
    return {
        "map": sum(aps.values()) / len(aps),
        "map_images": sum(owned) / len(owned),
        "map_micro": by_thresholds([decision for of_class in decisions.values() for decision in of_class]),
        "precision": sum(precisions) / len(precisions),
        "accuracy": sum(right) / len(right),
        "num_classes": len(present),
        "num_empty_classes": sum(c not in present for c in classes),
        "num_unscored_classes": len(unscored),
        "num_items": len(items),
        "num_left_out": len(targets) - len(items),
    }, aps


def softmax_regression(train, labels, test, *, lr, weight_decay, epochs, momentum=0.9):
    """Logits of the test rows after full-batch steps with momentum and a rate that falls along half a cosine."""
    train, test = train.double().numpy(), test.double().numpy()
    deviation = train.std(0)
    deviation[deviation == 0] = 1
    scale = deviation * math.sqrt(train.shape[1])
    test, train = (test - train.mean(0)) / scale, (train - train.mean(0)) / scale
    wanted = np.eye(int(labels.max()) + 1)[labels.numpy()]
    weight, bias = np.zeros((wanted.shape[1], train.shape[1])), np.zeros(wanted.shape[1])
    speeds = [0.0, 0.0]
    for step in range(epochs):
        scores = np.exp(train @ weight.T + bias)
        error = (scores / scores.sum(1, keepdims=True) - wanted) / len(train)
        gradients = [error.T @ train + weight_decay * weight, error.sum(0)]
        speeds = [momentum * speed + gradient for speed, gradient in zip(speeds, gradients, strict=True)]
        rate = lr * (1 + math.cos(math.pi * step / epochs)) / 2
        weight, bias = weight - rate * speeds[0], bias - rate * speeds[1]
    return test @ weight.T + bias


def adam_regression(train, labels, test, *, lr, weight_decay, epochs):
    """Logits of the test rows after full-batch steps of Adam (Kingma and Ba, 2015, algorithm 1), from zero."""
    train, test = train.double().numpy(), test.double().numpy()
    test, train = (test - train.mean(0)) / train.std(0), (train - train.mean(0)) / train.std(0)
    wanted = np.eye(int(labels.max()) + 1)[labels.numpy()]
    parameters = [np.zeros((wanted.shape[1], train.shape[1])), np.zeros(wanted.shape[1])]
    firsts, seconds = [0.0, 0.0], [0.0, 0.0]
    for step in range(1, epochs + 1):
        scores = np.exp(train @ parameters[0].T + parameters[1])
        error = (scores / scores.sum(1, keepdims=True) - wanted) / len(train)
        for i, gradient in enumerate([error.T @ train + weight_decay * parameters[0], error.sum(0)]):
            firsts[i] = 0.9 * firsts[i] + 0.1 * gradient
            seconds[i] = 0.999 * seconds[i] + 0.001 * gradient**2
            deviation = np.sqrt(seconds[i] / (1 - 0.999**step))
            parameters[i] = parameters[i] - lr * firsts[i] / (1 - 0.9**step) / (deviation + 1e-8)
    return test @ parameters[0].T + parameters[1]
