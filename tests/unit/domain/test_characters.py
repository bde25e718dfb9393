from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.domain.characters import Character, characters_of
from parakeet_service.domain.transcript import Token, Transcript, Word, words_of


def token(text: str, start_s: float, end_s: float) -> Token:
    return Token(1, text, start_s, end_s, confidence=0.9)


def test_divides_a_token_evenly_among_its_characters() -> None:
    characters = characters_of(words_of([token(" abc", 1.0, 1.75), token("d", 1.75, 2.0)]))
    assert characters == (
        Character("a", 1.0, 1.25),
        Character("b", 1.25, 1.5),
        Character("c", 1.5, 1.75),
        Character("d", 1.75, 2.0),
    )


def test_a_mark_that_outlasts_its_word_ends_with_it() -> None:
    characters = characters_of(words_of([token(" a", 0.0, 0.5), token(".", 0.5, 3.0)]))
    assert characters[-1] == Character(".", 0.5, 0.5)


def test_a_word_that_was_cut_short_keeps_its_characters_inside() -> None:
    tokens = (token(" ab", 0.0, 1.0),)
    word = Word("ab", start_s=0.5, end_s=0.75, confidence=0.9, tokens=tokens)
    assert characters_of([word]) == (Character("a", 0.5, 0.625), Character("b", 0.625, 0.75))


def test_silence_has_no_characters() -> None:
    assert characters_of(()) == ()


@given(
    st.lists(
        st.tuples(st.sampled_from([" a", " abc", "de", ".", " ", ",x"]), st.floats(0, 10), st.floats(0, 2)), max_size=12
    )
)
def test_characters_spell_the_words_and_lie_in_order_inside_them(pieces: list[tuple[str, float, float]]) -> None:
    tokens = [token(text, start_s, start_s + length_s) for text, start_s, length_s in pieces]
    transcript = Transcript.of(words_of(tokens), duration_s=12.0)
    for word in transcript.words:
        characters = characters_of([word])
        assert "".join(character.text for character in characters) == word.text
        edges = [edge for character in characters for edge in (character.start_s, character.end_s)]
        assert all(later - earlier > -1e-9 for earlier, later in pairwise(edges))
        assert word.start_s <= edges[0]
        assert edges[-1] <= word.end_s + 1e-9
