import numpy as np

from data.survey.repeats import content_digest, digest_of, find


def strings(*shards):
    return [b"".join(digest_of([name.encode()]) for name in shard) for shard in shards]


def test_groups_name_every_place_in_the_order_of_the_data():
    found = find(strings("abca", "xbz", "", "zzq"))
    assert found.surplus == 4
    assert found.groups == [[(0, 0), (0, 3)], [(0, 1), (1, 1)], [(1, 2), (3, 0), (3, 1)]]
    assert find(strings("abca", "xbz", "", "zzq"), examples=1).groups == [[(0, 0), (0, 3)]]


def test_across_ignores_what_is_twice_in_one_place_alone():
    found = find(strings("abca", "xbz", "zq"), across=True)
    assert found.surplus == 2
    assert [group[0] for group in found.groups] == [(0, 1), (1, 2)]
    assert find(strings("aa", "b"), across=True).surplus == 0


def test_nothing_twice():
    assert (
        find([]).surplus == find([b""]).surplus == find(strings("a")).surplus == find(strings("ab", "c")).surplus == 0
    )


def test_agrees_with_a_count():
    rng = np.random.default_rng(0)
    shards = [[str(n) for n in rng.integers(0, 400, size)] for size in (0, 1, 300, 500)]
    names = [name for shard in shards for name in shard]
    assert find(strings(*shards)).surplus == len(names) - len(set(names))


def test_content_is_names_and_bytes_of_members_not_the_key():
    assert content_digest({"a": b"1", "b": b"2"}) == content_digest({"b": b"2", "a": b"1"})
    different = [{"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""}, {"a": b"", "b": b"1"}, {"a1": b""}]
    assert len({content_digest(members) for members in different}) == len(different)
