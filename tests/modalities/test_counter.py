import torch

from modalities.counter import fold, uniform


def test_row_depends_on_its_seed_alone():
    seeds = torch.tensor([3, -7, 2**62, 0])
    whole = uniform(seeds, 50)
    assert torch.equal(whole, torch.cat([uniform(seed.view(1), 50) for seed in seeds]))
    assert torch.equal(whole[:, :20], uniform(seeds, 20))


def test_known_values():
    # The finaliser in Python's unbounded integers: overflow and the logical shift are what could differ by device.
    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    step = 0x9E3779B97F4A7C15
    for seed, number in [(0, 0), (1, 5), (-1, 640), (2**63 - 1, 2**40)]:
        expected = mix((mix((seed + step) % 2**64) + number * step) % 2**64)
        assert fold(torch.tensor([seed]), torch.tensor([number])).item() % 2**64 == expected


def test_uniform_in_moments_and_bins():
    x = uniform(torch.arange(2000), 500).double()
    assert x.min() > 0
    assert x.max() < 1
    n = x.numel()
    # Standard errors of mean, variance and of chi-square with 99 degrees of freedom; five of each are allowed.
    assert abs(x.mean() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(x.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    bins = torch.histc(x, 100, 0, 1)
    chi = ((bins - n / 100) ** 2 / (n / 100)).sum()
    assert abs(chi - 99) < 5 * (2 * 99) ** 0.5


def test_neighbours_are_not_correlated():
    x = uniform(torch.arange(2000), 500).double() - 0.5
    folded = uniform(fold(torch.arange(50)[:, None], torch.arange(40)[None]).flatten(), 500).double() - 0.5
    for a, b in [(x[:, 1:], x[:, :-1]), (x[1:], x[:-1]), (x[40:], x[:-40]), (folded[1:], folded[:-1])]:
        assert abs((a * b).mean() * 12) < 5 / a.numel() ** 0.5


def test_fold_gives_seeds_of_their_own():
    seeds = fold(torch.arange(300)[:, None], torch.arange(300)[None])
    assert seeds.unique().numel() == 300 * 300
