from training.alignment import beginnings


def test_words_begin_where_their_phonemes_do() -> None:
    assert beginnings("Well, I saw it.", "wEl, aI sO It.") == [0, 5, 8, 11]


def test_of_words_that_were_said_as_one_the_first_of_the_clause_is_sure() -> None:
    assert beginnings("End of the day, I saw.", "End VD@ deI, aI sO.") == [0, None, None, None, 13, 16]


def test_without_the_same_clauses_only_the_first_word_is_sure() -> None:
    assert beginnings("At two, or three.", "at tu Or Tri.") == [0, None, None, None]
