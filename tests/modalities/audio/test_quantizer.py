import pytest
import torch

from data.errors import InputError
from modalities.audio.quantizer import GumbelQuantizer, perplexity
from modalities.counter import uniform


def quantizer(**settings):
    torch.manual_seed(0)
    return GumbelQuantizer(6, latent_groups=2, latent_vars=5, latent_dim=8, **settings)


def test_temperature_is_a_function_of_the_step():
    found = quantizer(latent_temp=(2.0, 0.5, 0.999995))
    assert found.temperature(0) == 2.0
    assert found.temperature(100_000) == pytest.approx(2 * 0.999995**100_000)
    assert found.temperature(10_000_000) == 0.5


def test_training_draws_the_vectors_of_its_codes():
    module = quantizer().train()
    logits = module.logits(torch.randn(40, 6))
    vectors, codes = module(logits, 2.0, torch.arange(40))
    expected = torch.cat([module.codebook[g][codes[:, g]] for g in range(2)], 1)
    assert torch.equal(vectors, expected)
    again = module(logits, 2.0, torch.arange(40))
    assert torch.equal(again.codes, codes)
    assert not torch.equal(module(logits, 2.0, torch.arange(40) + 40).codes, codes)


def test_draws_follow_the_softmax():
    module = quantizer().train()
    logits = module.logits(torch.randn(1, 6)).detach()
    codes = module(logits.expand(20000, -1, -1), 2.0, torch.arange(20000)).codes
    for g in range(2):
        shares = torch.bincount(codes[:, g], minlength=5) / 20000
        assert torch.allclose(shares, logits[0, g].softmax(-1), atol=0.02)


def test_gradient_is_that_of_the_soft_choice():
    module = quantizer().train()
    logits = torch.randn(7, 2, 5, requires_grad=True)
    seeds = torch.arange(7)
    weight = torch.randn(7, 8)
    found = torch.autograd.grad((module(logits, 0.7, seeds).vectors * weight).sum(), logits)[0]
    noise = -torch.log(-torch.log(uniform(seeds, 10))).view(7, 2, 5)
    soft = ((logits + noise) / 0.7).softmax(-1)
    vectors = torch.cat([soft[:, g] @ module.codebook[g] for g in range(2)], 1)
    expected = torch.autograd.grad((vectors * weight).sum(), logits)[0]
    assert torch.allclose(found, expected, atol=1e-6)


def test_evaluation_takes_the_likeliest():
    module = quantizer().eval()
    logits = module.logits(torch.randn(40, 6))
    vectors, codes = module(logits, 2.0, torch.arange(40))
    assert torch.equal(codes, logits.argmax(-1))
    assert torch.equal(vectors, torch.cat([module.codebook[g][codes[:, g]] for g in range(2)], 1))


def test_numbers_tell_combinations_apart():
    module = quantizer()
    codes = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    assert module.numbers(codes).unique().numel() == 25


def test_perplexity_counts_codes_in_use():
    one = torch.eye(5)[:2]
    assert perplexity(one) == pytest.approx(2, abs=1e-4)
    assert perplexity(torch.full((2, 5), 0.2)) == pytest.approx(10, abs=1e-4)


def test_settings_are_checked():
    with pytest.raises(InputError, match="latent_groups=3 does not divide latent_dim=8"):
        GumbelQuantizer(6, 3, 5, 8)
    for wrong in ((2.0, 0.5), (2.0, 0.5, 1.1), (2.0, 0.0, 0.9)):
        with pytest.raises(InputError, match="latent_temp="):
            quantizer(latent_temp=wrong)
