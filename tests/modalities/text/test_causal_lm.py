import pytest
import torch

from data.errors import SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.objective import Step
from modalities.text.causal_lm import CausalLM, CausalText
from modalities.text.encoder import TextEncoder


def batch_of(prepare, texts):
    samples = [Sample("s.tar", "k", {"txt": t.encode()}) for t in texts]
    return prepare.collate([prepare(sample, generator(n), True) for n, sample in enumerate(samples)])


@pytest.mark.parametrize(("positions", "biased"), [("rotary", True), ("learned", True), ("rotary", False)])
def test_loss_is_that_of_a_plain_loop_over_documents(tokenizer_path, vocab_size, positions, biased):
    torch.manual_seed(0)
    encoder = TextEncoder(vocab_size, 16, 2, 4, causal=True, positions=positions)
    objective, prepare = CausalLM(vocab_size, biased), CausalText(tokenizer_path, 50)
    bias = torch.randn(vocab_size) if biased else torch.zeros(vocab_size)
    if biased:
        objective.bias.data.copy_(bias)
    texts = ["a red circle", "the blue square above two small stars", "green", "one two"]
    batch = batch_of(prepare, texts)
    loss, sums = objective({"text": encoder}, batch, Step(), {})
    expected, correct, terms = 0.0, 0, 0
    for words in texts:
        ids = [prepare.start, *prepare.tokenizer.encode(words), prepare.end]
        for place in range(1, len(ids)):  # each prediction made anew from its own past alone
            past = {"tokens": torch.tensor(ids[:place]), "layout": batch_of(prepare, [words])["text"]["layout"]}
            past["layout"] = type(past["layout"])([place])
            logits = encoder(past).tokens[-1] @ encoder.token_embedding.weight.T + bias
            expected -= float(logits.detach().log_softmax(-1)[ids[place]])
            correct += int(logits.argmax()) == ids[place]
            terms += 1
    assert objective.count(batch) == terms
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert int(sums["correct"]) == correct


def test_it_wants_a_causal_encoder_of_its_vocabulary(vocab_size):
    objective = CausalLM(vocab_size)
    assert objective.accept({"text": TextEncoder(vocab_size, 16, 1, 4, causal=True)}) is None
    assert "causal: true" in objective.accept({"text": TextEncoder(vocab_size, 16, 1, 4)})
    assert "vocab_size" in objective.accept({"text": TextEncoder(vocab_size + 1, 16, 1, 4, causal=True)})


def test_an_objective_without_parameters_takes_a_step(tokenizer_path, vocab_size):
    encoder = TextEncoder(vocab_size, 16, 1, 4, causal=True)
    batch = batch_of(CausalText(tokenizer_path, 50), ["a red circle", "green"])
    metrics = CausalLM(vocab_size, bias=False).step({"text": encoder}, [batch], Step(), 1.0)
    assert metrics["loss"].item() > 0
    assert encoder.token_embedding.weight.grad is not None


@pytest.mark.parametrize(("max_tokens", "max_chars"), [(12, 1_000_000), (200, 90), (12, 90)])
def test_a_window_of_a_longer_text_ends_where_the_text_ends_or_without_an_end(tokenizer_path, max_tokens, max_chars):
    prepare = CausalText(tokenizer_path, max_tokens, max_chars=max_chars)
    text = " ".join(f"circle{n}" for n in range(30))
    ids = [prepare.start, *prepare.tokenizer.encode(text), prepare.end]
    kinds, every = set(), {(True, False), (False, False), (False, True)}
    for n in range(300):
        item = prepare(Sample("s.tar", "k", {"txt": text.encode()}), generator(n), True)
        tokens, labels = item["tokens"].tolist(), item["labels"].tolist()
        assert tokens[1:] == labels[:-1]
        assert len(tokens) == max_tokens - 1 or max_tokens == 200
        kinds.add((tokens[0] == prepare.start, labels[-1] == prepare.end))
        assert prepare.start not in tokens[1:]
        assert prepare.end not in tokens
        if max_chars > 90:  # tokens are those of the whole text
            assert (*tokens, labels[-1]) in set(zip(*(ids[k:] for k in range(max_tokens)), strict=False))
    assert kinds == every or (kinds < every and max_tokens == 12 and max_chars == 90)  # twice cut: mostly in the middle
    held_out = prepare(Sample("s.tar", "k", {"txt": text.encode()}), generator(0), False)
    assert held_out["tokens"][0] == prepare.start
    assert held_out["labels"][-1] != prepare.end


def test_a_window_of_hardly_a_token_is_refused(tokenizer_path):
    prepare = CausalText(tokenizer_path, 50, max_chars=1)
    refused = 0
    for n in range(20):
        try:
            item = prepare(Sample("s.tar", "k", {"txt": b"abcdefgh"}), generator(n), True)
            assert len(item["labels"]) > 0
        except SampleError as error:
            refused += "is shorter than min_tokens=3" in str(error)
    assert refused > 5
