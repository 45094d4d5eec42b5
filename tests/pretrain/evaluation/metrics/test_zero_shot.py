"""Zero-shot against open_clip's own formulas (zero_shot_classifier.py, zero_shot.py) and scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from pretrain.evaluation.metrics.zero_shot import accuracy, balanced, classifier

CLASSES, TEMPLATES, FEATURES = 12, 5, 16


@pytest.fixture(params=range(4))
def fixed(request):
    draw = np.random.default_rng(request.param)
    centres = draw.standard_normal((CLASSES, FEATURES))
    texts = [(c + draw.standard_normal((TEMPLATES, FEATURES))).astype(np.float32) for c in centres]
    labels = draw.choice(CLASSES, 300, p=draw.dirichlet(np.ones(CLASSES)))
    images = (centres[labels] + 1.8 * draw.standard_normal((300, FEATURES))).astype(np.float32)
    return texts, images, labels


def open_clip(texts, images, labels):
    weights = []
    for own in texts:
        class_embeddings = F.normalize(torch.from_numpy(own), dim=-1)
        class_embedding = class_embeddings.mean(dim=0)
        weights.append(class_embedding / class_embedding.norm())
    classifier = torch.stack(weights, dim=1)
    logits = 100.0 * F.normalize(torch.from_numpy(images), dim=-1) @ classifier
    target, topk = torch.from_numpy(labels), (1, 5)
    pred = logits.topk(max(topk), 1, True, True)[1].t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    return logits, [float(correct[:k].reshape(-1).float().sum(0, keepdim=True)) / len(labels) for k in topk]


def test_accuracy_equals_open_clip_and_scikit_learn_exactly(fixed):
    texts, images, labels = fixed
    logits, expected = open_clip(texts, images, labels)
    classes = classifier(texts)
    assert [accuracy(images, classes, labels, k) for k in (1, 5)] == expected
    assert 0.2 < expected[0] < expected[1] < 1
    for k in (1, 5):
        sk = top_k_accuracy_score(labels, logits.numpy(), k=k, labels=range(CLASSES))
        assert accuracy(images, classes, labels, k) == sk
    predicted = logits.argmax(1).numpy()
    assert balanced(images, classes, labels) == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)


def test_the_length_of_a_template_s_embedding_does_not_matter(fixed):
    texts, _, _ = fixed
    longer = [own * np.arange(1, TEMPLATES + 1)[:, None] for own in texts]
    assert np.allclose(classifier(texts), classifier(longer))


def test_classes_that_look_alike_are_not_told_apart():
    assert accuracy(np.ones((4, 3)), np.ones((2, 3)), np.array([0, 1, 0, 1])) == 0
