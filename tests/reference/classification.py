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
