"""How batches are cut into a common prefix and packs, and what trees hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opportune.inference.tree import Item, common_prefix, packs, plant, plant_choices

LINE = 9  # stands for a line's end
tokens = st.lists(st.integers(0, 3), max_size=8)
questions = st.lists(
    st.builds(lambda trunk, branches: (trunk, branches), st.lists(st.integers(0, 3), min_size=1, max_size=8),
              st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=5)),
    min_size=1, max_size=8,
)  # fmt: skip


def ends_line(token: int) -> bool:
    return token == LINE


def test_the_common_prefix_ends_at_a_line_s_end_so_that_batches_share_it():
    head = [*range(100, 140), LINE]
    same_words = [Item(0, [*head, 1, 2, 3]), Item(1, [*head, 1, 2, 4])]
    other_words = [Item(0, [*head, 5]), Item(1, [*head, 6, 7])]
    assert common_prefix(same_words, ends_line) == common_prefix(other_words, ends_line) == head


def test_the_common_prefix_leaves_a_token_of_each_question():
    head = list(range(100, 140))
    items = [Item(0, head), Item(1, [*head, 1])]
    assert common_prefix(items, ends_line) == head[:-1]


def test_no_prefix_where_it_would_not_pay():
    assert common_prefix([Item(0, list(range(50)))], ends_line) == []
    assert common_prefix([Item(0, [1, 2, 3]), Item(1, [1, 2, 4])], ends_line) == []
    assert common_prefix([], ends_line) == []


@given(st.lists(tokens, min_size=1, max_size=8))
def test_a_planted_tree_has_every_sequence_as_a_path_and_no_token_twice(sequences: list[list[int]]):
    tree = plant(sequences, depth=3)
    prefixes = {tuple(each[:n]) for each in sequences for n in range(1, len(each) + 1)}
    assert len(tree.ids) == len(prefixes)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert [tree.ids[row] for row in path] == sequence
        assert [tree.positions[row] for row in path] == list(range(3, 3 + len(sequence)))
        assert all(tree.parents[row] == before for row, before in zip(path, [-1, *path], strict=False))
    assert tree.parents[: tree.shared] == list(range(-1, tree.shared - 1))
    assert all(path[: tree.shared] == list(range(tree.shared)) for path in tree.paths)


@given(questions, st.integers(1, 40))
def test_packs_hold_whole_questions_within_the_budget(drawn: list[tuple[list[int], list[list[int]]]], budget: int):
    items = [Item(i, trunk, branches) for i, (trunk, branches) in enumerate(drawn)]
    groups = packs(items, 0, budget)
    assert sorted(item.index for group in groups for item in group) == list(range(len(items)))
    for group in groups:
        assert len(group) == 1 or sum(item.tokens() for item in group) <= budget
    assert packs(list(reversed(items)), 0, budget) == groups


@given(questions)
def test_every_token_of_a_choice_is_read_after_the_token_before_it(drawn: list[tuple[list[int], list[list[int]]]]):
    pack = [Item(i, trunk, branches) for i, (trunk, branches) in enumerate(drawn) if branches]
    if not pack:
        return
    tree, reads = plant_choices(pack, 0)
    for i, item in enumerate(pack):
        assert item.tokens() >= len({row for read in reads if read.item == i for row in [read.row]})
        for j, branch in enumerate(item.branches):
            mine = [read for read in reads if (read.item, read.branch) == (i, j)]
            assert [read.token for read in mine] == branch
            assert [tree.ids[read.row] for read in mine] == [item.trunk[-1], *branch[:-1]]
