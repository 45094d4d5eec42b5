"""One order of summation, whoever adds up which part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.tree import Tree, subtrees


def joined(left, right):
    return f"({left}+{right})"


def whole(count):
    tree = Tree(joined)
    for number in range(count):
        tree.push((0, number), str(number))
    return tree


def test_neighbours_first_and_what_is_left_over_from_the_left():
    assert whole(1).total() == "0"
    assert whole(4).total() == "((0+1)+(2+3))"
    assert whole(7).total() == "((((0+1)+(2+3))+(4+5))+6)"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_shares_join_to_the_same_sum(shares):
    """Each share adds up its own leaves; their subtrees, in order, give what one process would."""
    every, begin = Tree(joined), 0
    for share in shares:
        own = Tree(joined)
        for number in range(begin, begin + share):
            own.push((0, number), str(number))
        assert [place for place, _ in own.nodes] == subtrees(begin, share)
        for place, value in own.nodes:
            every.push(place, value)
        begin += share
    assert every.total() == whole(begin).total()
    assert every.nodes == whole(begin).nodes


@pytest.mark.parametrize(("begin", "count", "most"), [(0, 1024, 1), (1024, 1024, 1), (3, 1000, 20)])
def test_few_subtrees(begin, count, most):
    assert len(subtrees(begin, count)) <= most
