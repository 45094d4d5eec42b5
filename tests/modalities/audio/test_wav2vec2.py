import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data.errors import InputError
from data.seeds import generator
from modalities.audio.encoder import AudioEncoder
from modalities.audio.masking import MaskedAudioPrepare
from modalities.audio.wav2vec2 import Wav2Vec2, contrast
from modalities.counter import fold
from modalities.layout import Layout
from modalities.objective import Step

LENGTHS = (8000, 5001, 6400, 8000, 7000, 9601, 5500, 16000)


@pytest.fixture
def items(recording):
    prepare = MaskedAudioPrepare(num_negatives=9)
    return [prepare(recording(samples=n, seed=i), generator(i), True) for i, n in enumerate(LENGTHS)]


def split(items, parts, dtype=torch.float32):
    prepare, size = MaskedAudioPrepare(), len(items) // parts
    batches = [prepare.collate(items[i : i + size]) for i in range(0, len(items), size)]
    for batch in batches:
        batch["audio"]["wave"] = batch["audio"]["wave"].to(dtype)
    return batches


def models(dtype=torch.float32, **settings):
    torch.manual_seed(0)
    encoder = AudioEncoder(channels=8, width=16, depth=1, heads=2)
    objective = Wav2Vec2(8, 16, latent_vars=5, latent_dim=8, final_dim=12, **settings)
    return nn.ModuleDict({"encoder": encoder, "objective": objective}).to(dtype)


def run(both, batches, number=7, weight=1.0):
    both.zero_grad()
    metrics = both["objective"].step({"audio": both["encoder"]}, batches, Step(number), weight)
    return metrics, torch.cat([p.grad.flatten() for p in both.parameters()])


def by_hand(both, batch, number=7, penalty=0.0):
    """The loss of one batch, frame by frame and negative by negative, as the paper and fairseq write it."""
    encoder, objective, audio = both["encoder"], both["objective"], batch["audio"]
    raw, normed = encoder.features(audio)
    context = objective.project_hid(encoder(audio).tokens)
    logits = objective.quantizer.logits(normed[audio["masked"]])
    clip_of, frame_of = audio["layout"].sequence, audio["layout"].position
    seeds = fold(audio["noise"][clip_of[audio["masked"]]], frame_of[audio["masked"]])
    codes = objective.quantizer(logits, objective.quantizer.temperature(number), seeds)
    targets = objective.project_q(codes.vectors)
    loss, correct = 0.0, 0
    for i, row in enumerate(audio["masked"].tolist()):
        scores = [F.cosine_similarity(context[row], targets[i], 0) / 0.1]
        for j in audio["negatives"][i].tolist():
            if not torch.equal(codes.codes[i], codes.codes[j]):
                scores.append(F.cosine_similarity(context[row], targets[j], 0) / 0.1)
        loss = loss - torch.stack(scores).log_softmax(0)[0]
        correct += len(scores) > 1 and bool(scores[0] > max(scores[1:]))
    average = logits.softmax(-1).mean(0)
    exponent = -(average * (average + 1e-7).log()).sum(-1)
    diversity = (average.numel() - exponent.exp().sum()) / average.numel()
    m = len(audio["masked"])
    return (loss / m + 0.1 * diversity + penalty * raw.square().mean()), correct / m


@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_loss_and_gradient_equal_a_plain_loop(items, penalty):
    both = models(torch.float64, feature_penalty=penalty)
    (batch,) = split(items, 1, torch.float64)
    metrics, grads = run(both, [batch])
    both.zero_grad()
    loss, accuracy = by_hand(both, batch, penalty=penalty)
    loss.backward()
    assert metrics["loss"].item() == pytest.approx(loss.item(), rel=1e-9)
    assert metrics["contrastive_accuracy"].item() == pytest.approx(accuracy)
    expected = torch.cat([p.grad.flatten() for p in both.parameters()])
    assert torch.allclose(grads, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_a_step_does_not_depend_on_its_micro_batches(items, parts, dtype, tolerance):
    both = models(dtype, feature_penalty=10.0, diversity_weight=1.0)
    metrics, grads = run(both, split(items, 1, dtype), weight=0.3)
    others, found = run(both, split(items, parts, dtype), weight=0.3)
    assert (found - grads).abs().max() < tolerance * grads.abs().max()
    assert metrics.keys() == others.keys()
    for name, value in metrics.items():
        assert others[name].item() == pytest.approx(value.item(), rel=tolerance)


def test_losses_of_micro_batches_sum_up_to_the_loss(items):
    both = models(torch.float64, feature_penalty=10.0)
    objective, encoders, batches = both["objective"], {"audio": both["encoder"]}, split(items, 4, torch.float64)
    metrics, _ = run(both, batches)
    statistics = [objective.statistics(encoders, batch) for batch in batches]
    totals = {name: sum(s[name] for s in statistics) for name in statistics[0]}
    totals["count"] = torch.tensor(float(sum(map(objective.count, batches))), dtype=torch.float64)
    total = sum(objective(encoders, batch, Step(7), totals)[0] for batch in batches)
    assert (total / totals["count"]).item() == pytest.approx(metrics["loss"].item(), rel=1e-9)


def test_held_out_metrics_do_not_depend_on_the_batches(items):
    both = models(torch.float64).eval()
    objective, encoders = both["objective"], {"audio": both["encoder"]}
    whole, parts = (objective.measure(encoders, split(items, n, torch.float64), Step()) for n in (1, 4))
    for name, found in whole.items():
        assert parts[name] == pytest.approx(found, rel=1e-9)
    assert "temperature" not in whole
    assert whole["code_perplexity"]["chance"] == 2


def test_an_untrained_model_is_at_chance():
    # Directions without meaning: the accuracy and the loss must be those that ``chance`` names.
    torch.manual_seed(0)
    masks = Layout([400] * 5)
    negatives = torch.randint(0, 399, (2000, 9))
    place = masks.position.unsqueeze(1)
    negatives = negatives + (negatives >= place) + masks.offsets[masks.sequence].unsqueeze(1)
    numbers = torch.randint(0, 6, (2000,))
    targets = torch.randn(6, 16)[numbers]  # of the same codes the same
    _, sums = contrast(torch.randn(2000, 16), targets, numbers, negatives, masks, 0.1)
    assert abs(sums["correct"] - sums["guess"]) < 0.03 * 2000
    loss, _ = contrast(torch.randn(2000, 16), torch.ones(2000, 16), numbers, negatives, masks, 0.1)
    assert loss.item() == pytest.approx(sums["surprise"].item(), rel=1e-4)
    chance = models()["objective"].chance({**sums, "count": torch.tensor(2000.0)})
    rivals = [len(set(numbers[drawn].tolist()) - {own}) for drawn, own in zip(negatives, numbers.tolist(), strict=True)]
    assert chance["contrastive_accuracy"] == pytest.approx(sum(1 / (1 + n) for n in rivals if n) / 2000, rel=1e-6)


def test_a_collapsed_code_book_is_not_success():
    masks = Layout([3, 2])
    negatives = torch.tensor([[1, 2], [0, 2], [0, 1], [4, 4], [3, 3]])
    hidden = torch.randn(5, 4, requires_grad=True)
    loss, sums = contrast(hidden, torch.randn(5, 4), torch.zeros(5, dtype=torch.int64), negatives, masks, 0.1)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert (sums["correct"], sums["guess"]) == (0, 0)
    loss.backward()
    assert hidden.grad.isfinite().all()


def test_negatives_count_as_often_as_they_are_drawn():
    masks = Layout([3])
    hidden, targets = torch.randn(3, 4), torch.randn(3, 4)
    similar = F.normalize(hidden, dim=-1) @ F.normalize(targets, dim=-1).t() / 0.1
    negatives = torch.tensor([[1, 1, 2], [0, 0, 0], [1, 0, 1]])
    loss, _ = contrast(hidden, targets, torch.arange(3), negatives, masks, 0.1)
    rows = torch.stack([similar[i, [i, *negatives[i].tolist()]] for i in range(3)])
    assert loss.item() == pytest.approx(
        F.cross_entropy(rows, torch.zeros(3, dtype=torch.int64), reduction="sum").item()
    )


def test_metrics_of_a_step(items):
    metrics, _ = run(models(), split(items, 2))
    assert metrics["temperature"].item() == pytest.approx(2 * 0.999995**7)
    assert 2 <= metrics["code_perplexity"] <= 10
    assert 2 <= metrics["prob_perplexity"] <= 10
    assert all(math.isfinite(value) for value in metrics.values())
    plain, _ = run(models(diversity_weight=0.0), split(items, 2))
    assert plain["loss"].item() == pytest.approx(plain["contrastive_loss"].item())


def test_half_precision_keeps_loss_and_choice_in_float32(items):
    both = models()
    (batch,) = split(items, 1)
    whole, _ = run(both, [batch])
    with torch.autocast("cpu", torch.bfloat16):
        half, grads = run(both, [batch])
    assert half["loss"].item() == pytest.approx(whole["loss"].item(), rel=0.2)
    assert grads.isfinite().all()


def test_weights_in_half_precision_leave_loss_and_choice_in_float32(items):
    both = models()
    (batch,) = split(items, 1)
    whole, _ = run(both, [batch])
    half, grads = run(both.bfloat16(), [batch])
    assert half["loss"].item() == pytest.approx(whole["loss"].item(), rel=0.2)
    assert grads.isfinite().all()


def test_other_encoders_are_refused(items):
    with pytest.raises(InputError, match="needs an AudioEncoder, got Linear"):
        models()["objective"].statistics({"audio": nn.Linear(2, 2)}, split(items, 1)[0])


def test_features_are_dropped_alike_in_statistics_and_loss(items):
    both = models(torch.float64, feature_dropout=0.3)
    objective, encoders, (batch,) = both["objective"], {"audio": both["encoder"]}, split(items, 1, torch.float64)
    torch.manual_seed(5)
    probs = objective.statistics(encoders, batch)["probs"]
    totals = {"count": torch.tensor(float(objective.count(batch)), dtype=torch.float64)}
    torch.manual_seed(5)
    assert torch.equal(objective(encoders, batch, Step(), totals)[1]["probs"], probs)
    assert not torch.allclose(objective.statistics(encoders, batch)["probs"], probs)
    with pytest.raises(InputError, match="feature_dropout=-1"):
        models(feature_dropout=-1)
